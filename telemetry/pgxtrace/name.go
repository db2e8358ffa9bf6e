package pgxtrace

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// maxNames and maxTables bound the names of one pool's statements and of the tables it copies to. The rest is other.
	maxNames, maxTables = 256, 64
	// maxLength is that of a name or table.
	maxLength = 64

	otherName = "other"
	copyVerb  = "copy"
	// batchVerb is no SQL: it stands for a batch that failed as a whole.
	batchVerb = "batch"
)

// nameMark begins a statement that sqlc generated.
const nameMark = "-- name: "

// queryName is the name that sqlc gave to a statement, a part of its text; empty where there is none.
func queryName(sql string) string {
	rest, ok := strings.CutPrefix(strings.TrimLeft(sql, space), nameMark)
	if !ok {
		return ""
	}
	end := 0
	for end < len(rest) && end <= maxLength && isNameByte(rest[end]) {
		end++
	}
	if end > maxLength || (end < len(rest) && strings.IndexByte(space, rest[end]) < 0) {
		return ""
	}
	return rest[:end]
}

// isName reports whether a text may be a label as it stands: short, and nothing in it that a backend refuses.
func isName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= maxLength
}

func isNameByte(b byte) bool {
	return isLetter(b) || '0' <= b && b <= '9' || b == '_' || b == '-' || b == '.'
}

func isLetter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }

const space = " \t\r\n\f\v"

// firstWord is the first word of a statement, past comments and brackets.
func firstWord(sql string) string {
	for {
		sql = strings.TrimLeft(sql, space+"(;")
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		default:
			end := 0
			for end < len(sql) && end <= maxVerb && isLetter(sql[end]) {
				end++
			}
			return sql[:end]
		}
	}
}

// maxVerb is the length of the longest of verbs.
const maxVerb = 10

// verbs are the first words of PostgreSQL's statements. Anything else is other: the name of a prepared statement, say, or what
// is no SQL at all.
var verbs = []string{
	"abort", "alter", "analyze", "begin", "call", "checkpoint", "close", "cluster", "comment", "commit", copyVerb, "create",
	"deallocate", "declare", "delete", "discard", "do", "drop", "end", "execute", "explain", "fetch", "grant", "import", "insert",
	"listen", "load", "lock", "merge", "move", "notify", "prepare", "reassign", "refresh", "reindex", "release", "reset", "revoke",
	"rollback", "savepoint", "security", "select", "set", "show", "start", "table", "truncate", "unlisten", "update", "vacuum",
	"values", "with", batchVerb, otherName,
}

// prefixedVerbs are the labels of statements without a name.
func prefixedVerbs(prefix string) map[string]string {
	prefixed := make(map[string]string, len(verbs))
	for _, verb := range verbs {
		prefixed[verb] = prefix + verb
	}
	return prefixed
}

// labelOfVerb finds a word of any case without making a string of it.
func labelOfVerb(labels map[string]string, word string) string {
	var lower [maxVerb]byte
	if len(word) <= maxVerb {
		for i := range len(word) {
			lower[i] = word[i] | 0x20
		}
		if label, ok := labels[string(lower[:len(word)])]; ok {
			return label
		}
	}
	return labels[otherName]
}

// labels gives a bounded number of names their prefix, once each. Reading takes no lock and makes nothing.
type labels struct {
	prefix, other string
	limit         int

	mu    sync.Mutex
	known atomic.Pointer[map[string]string]
}

func newLabels(prefix string, limit int) *labels {
	l := &labels{prefix: prefix, other: prefix + otherName, limit: limit}
	l.known.Store(&map[string]string{})
	return l
}

func (l *labels) label(name string) string {
	known := *l.known.Load()
	if label, ok := known[name]; ok {
		return label
	}
	if len(known) >= l.limit || !isName(name) {
		return l.other
	}
	return l.admit(name)
}

func (l *labels) admit(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := *l.known.Load()
	if label, ok := known[name]; ok {
		return label
	}
	if len(known) >= l.limit {
		return l.other
	}
	// A copy: the name is a part of a text that must not be kept alive for it.
	label := strings.Clone(l.prefix + name)
	known = maps.Clone(known)
	known[label[len(l.prefix):]] = label
	l.known.Store(&known)
	return label
}
