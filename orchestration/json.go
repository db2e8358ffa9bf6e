package orchestration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits keep within what jsonb takes, with room: numeric has 131072 digits before the point and 16383 behind it.
const (
	maxDepth        = 512
	maxNumberLength = 1000
	maxExponent     = 1000
)

// CheckJSON verifies that Postgres can store the text as jsonb, and that it has at most limit bytes: the checks that would
// otherwise fail in the middle of a transaction, or each time anew. what names it in the error, which is a *RequestError.
func CheckJSON(what string, text []byte, limit int) error {
	if len(text) > limit {
		return &RequestError{
			Reason: fmt.Sprintf("%s has %d bytes, more than the %d allowed", what, len(text), limit),
			Hint:   "store large data elsewhere and pass a reference",
		}
	}
	if !utf8.Valid(text) {
		return &RequestError{Reason: what + " is not valid UTF-8"}
	}
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return &RequestError{Reason: what + " is not valid JSON: " + err.Error()}
	}
	s := &jsonScan{what: what, text: text}
	return s.run()
}

// jsonScan looks through valid JSON for what jsonb refuses or would change.
type jsonScan struct {
	what  string
	text  []byte
	at    int
	depth int
}

func (s *jsonScan) run() error {
	for ; s.at < len(s.text); s.at++ {
		var err error
		switch s.text[s.at] {
		case '"':
			err = s.str()
		case '{', '[':
			if s.depth++; s.depth > maxDepth {
				err = &RequestError{Reason: fmt.Sprintf("%s is nested more than %d deep", s.what, maxDepth)}
			}
		case '}', ']':
			s.depth--
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			err = s.number()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// number refuses numbers beyond what numeric holds.
func (s *jsonScan) number() error {
	end := s.at + 1
	for end < len(s.text) && strings.IndexByte("0123456789.eE+-", s.text[end]) >= 0 {
		end++
	}
	number := s.text[s.at:end]
	s.at = end - 1
	if len(number) > maxNumberLength {
		return &RequestError{Reason: fmt.Sprintf("%s has a number of %d characters, which is out of range", s.what, len(number))}
	}
	at := bytes.IndexAny(number, "eE")
	if at < 0 {
		return nil
	}
	if n, err := strconv.Atoi(string(number[at+1:])); err != nil || n > maxExponent || n < -maxExponent {
		return &RequestError{Reason: fmt.Sprintf("%s has a number with the exponent %.20s, which is out of range", s.what, number[at+1:])}
	}
	return nil
}

// str walks one string, to its closing quote.
func (s *jsonScan) str() error {
	for s.at++; s.text[s.at] != '"'; s.at++ {
		if s.text[s.at] != '\\' {
			continue
		}
		s.at++
		if s.text[s.at] != 'u' {
			continue
		}
		if !s.escape() {
			return &RequestError{
				Reason: fmt.Sprintf("%s has the character \\%s at byte %d, which Postgres cannot store", s.what, s.text[s.at:s.at+5], s.at-1),
				Hint:   "remove it, or encode the data as base64",
			}
		}
	}
	return nil
}

// The surrogates: halves of a character, which mean nothing alone.
const (
	surrogateFirst = 0xD800
	lowFirst       = 0xDC00
	surrogateLast  = 0xDFFF
)

// escape checks the \u escape whose u is here: neither zero nor half of a pair.
func (s *jsonScan) escape() bool {
	code := s.hex(s.at + 1)
	switch {
	case code == 0, code >= lowFirst && code <= surrogateLast:
		return false
	case code < surrogateFirst || code > surrogateLast:
		return true
	case len(s.text) < s.at+11 || s.text[s.at+5] != '\\' || s.text[s.at+6] != 'u':
		return false
	}
	if low := s.hex(s.at + 7); low < lowFirst || low > surrogateLast {
		return false
	}
	s.at += 6 // the other half
	return true
}

// hex reads four hexadecimal digits; valid JSON has them.
func (s *jsonScan) hex(at int) int {
	const hexBase, bits = 16, 32
	code, err := strconv.ParseInt(string(s.text[at:at+4]), hexBase, bits)
	if err != nil {
		return 0
	}
	return int(code)
}
