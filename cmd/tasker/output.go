package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v) //nolint:wrapcheck // writing to the terminal
}

// plain strips what would steer a terminal from text that came from elsewhere.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '\uFFFD'
		}
		return r
	}, text)
}

// printCreated prints the id alone: it is the result.
func printCreated(w io.Writer, format string, run *tasker.Run) error {
	if format == "json" {
		return printJSON(w, map[string]any{"id": run.ID, "duplicate": run.Duplicate})
	}
	_, err := fmt.Fprintln(w, run.ID)
	return err //nolint:wrapcheck // writing to the terminal
}

// printResult prints what the task was for: the result of its last step, or of its last steps by name.
func printResult(w io.Writer, format string, task *tasker.Task) error {
	switch format {
	case "json":
		return printJSON(w, task)
	case "id":
		_, err := fmt.Fprintln(w, task.ID)
		return err //nolint:wrapcheck // writing to the terminal
	}
	results := lastResults(task)
	if len(results) == 1 {
		for _, result := range results {
			var text string
			if json.Unmarshal(result, &text) != nil {
				text = string(result)
			}
			_, err := fmt.Fprintln(w, plain(text))
			return err //nolint:wrapcheck // writing to the terminal
		}
	}
	return printJSON(w, results)
}

// lastResults are the results of the steps that nothing depends on.
func lastResults(task *tasker.Task) map[string]json.RawMessage {
	results := make(map[string]json.RawMessage)
	for i := range task.Steps {
		results[task.Steps[i].Name] = task.Steps[i].Result
	}
	for i := range task.Steps {
		for _, parent := range task.Steps[i].Dependencies {
			delete(results, parent)
		}
	}
	return results
}

func printTasks(w io.Writer, format string, tasks []tasker.TaskSummary) error {
	switch format {
	case "json":
		return printJSON(w, tasks)
	case "id":
		for i := range tasks {
			fmt.Fprintln(w, tasks[i].ID)
		}
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTEMPLATE\tSTATE\tSTEPS\tPROBLEM\tAGE")
	for i := range tasks {
		t := &tasks[i]
		id := t.ID.String()
		fmt.Fprintf(table, "%s\t%s/%s\t%s\t%s\t%s\t%s\n", id[len(id)-8:], t.Namespace, t.Name, t.State, t.Steps,
			cut(plain(t.Problem), 60), age(t.CreatedAt))
	}
	return table.Flush() //nolint:wrapcheck // writing to the terminal
}

func cut(text string, limit int) string {
	text = strings.ReplaceAll(text, "\n", " ")
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-1]) + "…"
	}
	return text
}

func age(since time.Time) string {
	d := time.Since(since)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func printTask(w io.Writer, format string, task *tasker.Task) error {
	switch format {
	case "json":
		return printJSON(w, task)
	case "id":
		_, err := fmt.Fprintln(w, task.ID)
		return err //nolint:wrapcheck // writing to the terminal
	}
	_, err := io.WriteString(w, tree(task))
	return err //nolint:wrapcheck // writing to the terminal
}

// marks carry the state without colour.
var marks = map[dag.StepState]string{
	dag.StepPending: "○", dag.StepEnqueued: "◌", dag.StepInProgress: "●", dag.StepEnqueuedForOrchestration: "●",
	dag.StepEnqueuedAsErrorForOrchestration: "●", dag.StepWaitingForRetry: "◔", dag.StepComplete: "✓", dag.StepError: "✗",
	dag.StepCancelled: "⊘", dag.StepResolvedManually: "☑",
}

// tree draws a task with its steps in order, a line each.
func tree(task *tasker.Task) string {
	var b strings.Builder
	end := time.Now()
	if task.FinishedAt != nil {
		end = *task.FinishedAt
	}
	fmt.Fprintf(&b, "%s/%s@%s  %s  %s  %s\n", task.Namespace, task.Name, task.Version, task.ID, task.State, short(end.Sub(task.CreatedAt)))
	for i := range task.Steps {
		branch := "├─"
		if i == len(task.Steps)-1 {
			branch = "└─"
		}
		fmt.Fprintf(&b, "%s %s\n", branch, stepLine(&task.Steps[i]))
	}
	if task.Problem != "" {
		fmt.Fprintf(&b, "%s\n", plain(task.Problem))
	}
	if task.State == dag.TaskError || task.State == dag.TaskBlockedByFailures {
		fmt.Fprintf(&b, "  retry    tasker task retry %s --reason …\n", task.ID.String()[28:])
		if failed := failedStep(task); failed != "" {
			fmt.Fprintf(&b, "  resolve  tasker step resolve %s %s --reason …\n", task.ID.String()[28:], failed)
		}
	}
	return b.String()
}

func failedStep(task *tasker.Task) string {
	for i := range task.Steps {
		if task.Steps[i].State == dag.StepError {
			return task.Steps[i].Name
		}
	}
	return ""
}

func stepLine(s *tasker.TaskStep) string {
	line := fmt.Sprintf("%s %-28s %s", marks[s.State], s.Name, s.State)
	if s.StartedAt != nil && s.FinishedAt != nil {
		line += "  " + short(s.FinishedAt.Sub(*s.StartedAt))
	}
	if s.Attempts > 1 || s.State == dag.StepWaitingForRetry {
		line += fmt.Sprintf("  attempt %d of %d", s.Attempts, s.MaxAttempts)
	}
	if s.RetryAt != nil {
		line += "  next in " + short(time.Until(*s.RetryAt))
	}
	if s.State == dag.StepInProgress {
		line += "  on " + s.WorkerID
	}
	if s.Failure != nil && !s.State.Succeeded() {
		line += "  " + cut(plain(s.Failure.Message), 80)
	}
	if s.State == dag.StepPending && len(s.Dependencies) > 0 {
		line += "  waits for " + strings.Join(s.Dependencies, ", ")
	}
	return line
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%dms", max(d.Milliseconds(), 0))
	}
	return d.Round(100 * time.Millisecond).String()
}

func printHistory(w io.Writer, format string, changes []tasker.Change) error {
	if format == "json" {
		return printJSON(w, changes)
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "AT\tOF\tFROM\tTO\tNOTE")
	for _, c := range changes {
		of := c.Step
		if of == "" {
			of = "(task)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", c.At.Format("15:04:05.000"), of, c.From, c.To, cut(plain(c.Note), 80))
	}
	return table.Flush() //nolint:wrapcheck // writing to the terminal
}
