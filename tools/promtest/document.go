package promtest

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// block is a fenced block of a Markdown file.
type block struct {
	line int
	text string
}

// blocks are a file's fenced blocks of a language.
func blocks(path, language string) ([]block, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	defer file.Close()
	var out []block
	var open *block
	other := false // inside a block of another language
	scanner := bufio.NewScanner(file)
	for n := 1; scanner.Scan(); n++ {
		line := scanner.Text()
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open != nil:
			out, open = append(out, *open), nil
		case fence && other:
			other = false
		case fence && strings.TrimSpace(line) == "```"+language:
			open = &block{line: n + 1}
		case fence:
			other = true
		case open != nil:
			open.text += line + "\n"
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	return out, nil
}

// statements are the queries of a block: separated by empty lines or comments, or each on a line of its own.
func statements(text string) []string {
	var out []string
	var part []string
	end := func() {
		whole := strings.Join(part, "\n")
		if _, err := promql.ParseExpr(whole); err == nil || len(part) == 1 {
			out = append(out, whole)
		} else {
			out = append(out, part...)
		}
		part = nil
	}
	for line := range strings.Lines(text + "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line != "" && !strings.HasPrefix(line, "#"):
			part = append(part, line)
		case len(part) > 0:
			end()
		}
	}
	return out
}
