package setup_test

import (
	"bytes"
	"strings"
	"sync"
)

// lines collects what a handler writes.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// with are the lines that contain all the words.
func (l *lines) with(words ...string) []string {
	var out []string
	for line := range strings.Lines(l.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			out = append(out, line)
		}
	}
	return out
}
