package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// watchEvery is how often a watched task is read.
const watchEvery = 100 * time.Millisecond

// watch shows a task until it ends: redrawn in place on a terminal, each change as a line of JSON in a pipe.
func watch(ctx context.Context, cmd *cobra.Command, c *tasker.Client, id uuid.UUID) error {
	view := newWatcher(cmd.OutOrStdout())
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		task, err := c.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := view.show(task); err != nil {
			return err
		}
		if task.State.Resting() {
			if task.State != dag.TaskComplete {
				return &tasker.EndedError{Task: task}
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// newWatcher chooses by what is written to.
func newWatcher(out io.Writer) watcher {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &lines{out: out, seen: make(map[string]dag.StepState)}
	}
	return &screen{out: out, width: func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 0
		}
		return width
	}}
}

// watcher shows one state of a task after the other.
type watcher interface{ show(task *tasker.Task) error }

// screen redraws the tree.
type screen struct {
	out   io.Writer
	width func() int
	lines int
}

func (s *screen) show(task *tasker.Task) error {
	text := fit(tree(task), s.width())
	if s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.lines)
	}
	s.lines = strings.Count(text, "\n")
	_, err := io.WriteString(s.out, text)
	return err //nolint:wrapcheck // writing to the terminal
}

// fit cuts lines to the width of the screen: a wrapped one would make the next redraw begin too low.
func fit(text string, width int) string {
	if width <= 0 {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(cut(strings.TrimSuffix(line, "\n"), width))
		b.WriteByte('\n')
	}
	return b.String()
}

// lines prints what changed.
type lines struct {
	out   io.Writer
	seen  map[string]dag.StepState
	state dag.TaskState
}

// change is one line of the watch in a pipe.
type change struct {
	Time   time.Time       `json:"time"`
	Task   uuid.UUID       `json:"task"`
	Step   string          `json:"step,omitempty"`
	State  string          `json:"state"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}

func (l *lines) show(task *tasker.Task) error {
	encoder := json.NewEncoder(l.out)
	for i := range task.Steps {
		s := &task.Steps[i]
		if l.seen[s.Name] == s.State {
			continue
		}
		l.seen[s.Name] = s.State
		line := change{Time: time.Now(), Task: task.ID, Step: s.Name, State: string(s.State), Result: s.Result}
		if s.Failure != nil && !s.State.Succeeded() {
			line.Error = s.Failure.Message
		}
		if err := encoder.Encode(line); err != nil {
			return err //nolint:wrapcheck // writing to the terminal
		}
	}
	if l.state == task.State {
		return nil
	}
	l.state = task.State
	line := change{Time: time.Now(), Task: task.ID, State: string(task.State), Error: task.Problem}
	return encoder.Encode(line) //nolint:wrapcheck // writing to the terminal
}
