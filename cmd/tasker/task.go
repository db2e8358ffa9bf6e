package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func newTask(g *globals) *cobra.Command {
	return group("task", "Create, inspect and control tasks",
		newTaskCreate(g), newTaskList(g), newTaskShow(g), newTaskWait(g), newTaskCancel(g), newTaskRetry(g))
}

// createFlags are those of `task create`.
type createFlags struct {
	input, version, key, at, correlation, reason string
	priority                                     int
	tags                                         []string
	wait, watch                                  bool
	timeout                                      time.Duration
}

func newTaskCreate(g *globals) *cobra.Command {
	f := &createFlags{}
	cmd := &cobra.Command{
		Use:   "create NAMESPACE/NAME",
		Short: "Create a task",
		Example: `  tasker task create rust_e2e_linear/mathematical_sequence --input '{"even_number":6}' --wait
  tasker task create orders/fulfil --input @order.json --key order-7 --watch`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd.Context(), func(c *tasker.Client) error { return f.run(cmd, g, c, args[0]) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.input, "input", "i", "{}", "the task's context: JSON, @file, or - for standard input")
	flags.StringVar(&f.version, "version", "", "version of the template; default: the newest")
	flags.StringVar(&f.key, "key", "", "idempotency key: the same key is the same task")
	flags.IntVar(&f.priority, "priority", 0, "-100 to 100, higher runs earlier")
	flags.StringSliceVar(&f.tags, "tag", nil, "tags")
	flags.StringVar(&f.at, "at", "", "start later: RFC 3339 time, or a duration from now")
	flags.StringVar(&f.correlation, "correlation-id", "", "UUID shared by logs and traces; default: a new one")
	flags.StringVar(&f.reason, "reason", "", "why")
	flags.BoolVarP(&f.wait, "wait", "w", false, "wait for the end and print the result of the last step")
	flags.BoolVar(&f.watch, "watch", false, "show the steps while they run; NDJSON in a pipe")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long to wait; default: for ever")
	return cmd
}

func (f *createFlags) run(cmd *cobra.Command, g *globals, c *tasker.Client, name string) error {
	request, err := f.request(cmd, name)
	if err != nil {
		return err
	}
	run, err := c.Create(cmd.Context(), request)
	if err != nil {
		return err
	}
	if run.Duplicate {
		fmt.Fprintf(cmd.ErrOrStderr(), "task %s exists already with this identity\n", run.ID)
	}
	if !f.wait && !f.watch {
		return printCreated(cmd.OutOrStdout(), g.output, run)
	}
	ctx, cancel := withTimeout(cmd.Context(), f.timeout)
	defer cancel()
	if f.watch {
		return watch(ctx, cmd, c, run.ID)
	}
	task, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	return printResult(cmd.OutOrStdout(), g.output, task)
}

func (f *createFlags) request(cmd *cobra.Command, name string) (tasker.Request, error) {
	namespace, short, ok := strings.Cut(name, "/")
	if !ok {
		return tasker.Request{}, usageError{fmt.Errorf("%q is not NAMESPACE/NAME", name)}
	}
	input, err := readInput(cmd.InOrStdin(), f.input)
	if err != nil {
		return tasker.Request{}, err
	}
	r := tasker.Request{
		Namespace: namespace, Name: short, Version: f.version, Context: input, Priority: f.priority, IdempotencyKey: f.key,
		Tags: f.tags, Initiator: operator(), SourceSystem: "tasker-cli", Reason: f.reason,
	}
	if f.correlation != "" {
		if r.CorrelationID, err = uuid.Parse(f.correlation); err != nil {
			return r, usageError{fmt.Errorf("--correlation-id: %w", err)}
		}
	}
	if f.at != "" {
		if r.RunAt, err = parseTime(f.at); err != nil {
			return r, usageError{err}
		}
	}
	return r, nil
}

func parseTime(text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("--at %q is neither an RFC 3339 time nor a duration like 90s", text)
	}
	return at, nil
}

// maxInput is more than any context may have; the client refuses it with the exact limit.
const maxInput = 4 << 20

// readInput reads JSON from the argument, a file or standard input.
func readInput(stdin io.Reader, arg string) (json.RawMessage, error) {
	var text []byte
	var err error
	switch {
	case arg == "-":
		text, err = io.ReadAll(io.LimitReader(stdin, maxInput))
	case strings.HasPrefix(arg, "@"):
		text, err = os.ReadFile(arg[1:])
	default:
		text = []byte(arg)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("read --input: %w", err)}
	}
	if !json.Valid(text) {
		var v any
		return nil, usageError{fmt.Errorf("--input is not JSON: %w", json.Unmarshal(text, &v))}
	}
	return text, nil
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

func newTaskList(g *globals) *cobra.Command {
	var states []string
	var params tasker.ListParams
	var template string
	cmd := &cobra.Command{
		Use: "list", Short: "List tasks, the newest first", Args: exactly(0),
		Example: `  tasker task list --state error,waiting_for_retry
  tasker task list --template rust_e2e_linear/mathematical_sequence -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				if !validState(s) {
					return usageError{fmt.Errorf("--state %q is not one of %v", s, dag.TaskStates())}
				}
				params.States = append(params.States, dag.TaskState(s))
			}
			params.Namespace, params.Name, _ = strings.Cut(template, "/")
			return g.client(cmd.Context(), func(c *tasker.Client) error {
				tasks, err := c.List(cmd.Context(), params)
				if err != nil {
					return err
				}
				return printTasks(cmd.OutOrStdout(), g.output, tasks)
			})
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only tasks in these states")
	cmd.Flags().StringVar(&template, "template", "", "only tasks of NAMESPACE or NAMESPACE/NAME")
	cmd.Flags().StringVar(&params.Tag, "tag", "", "only tasks with this tag")
	cmd.Flags().IntVar(&params.Limit, "limit", 50, "how many")
	return cmd
}

func validState(s string) bool {
	for _, known := range dag.TaskStates() {
		if string(known) == s {
			return true
		}
	}
	return false
}

func newTaskShow(g *globals) *cobra.Command {
	var history bool
	cmd := &cobra.Command{
		Use: "show TASK", Short: "Show a task with its steps, and why it does not move", Args: exactly(1),
		Example: `  tasker task show @last
  tasker task show 7f3a91c2 --history`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd.Context(), func(c *tasker.Client) error {
				id, err := c.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if history {
					changes, err := c.History(cmd.Context(), id)
					if err != nil {
						return err
					}
					return printHistory(cmd.OutOrStdout(), g.output, changes)
				}
				task, err := c.Get(cmd.Context(), id)
				if err != nil {
					return err
				}
				return printTask(cmd.OutOrStdout(), g.output, task)
			})
		},
	}
	cmd.Flags().BoolVar(&history, "history", false, "show every change in order instead")
	return cmd
}

func newTaskWait(g *globals) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait TASK", Short: "Wait for a task to end and print its result", Args: exactly(1),
		Example: "  tasker task wait @last --timeout 2m",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd.Context(), func(c *tasker.Client) error {
				id, err := c.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				ctx, cancel := withTimeout(cmd.Context(), timeout)
				defer cancel()
				task, err := c.Wait(ctx, id)
				if err != nil {
					return err
				}
				return printResult(cmd.OutOrStdout(), g.output, task)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait; default: for ever")
	return cmd
}

func newTaskCancel(g *globals) *cobra.Command {
	return operation(g, "cancel TASK", "End a task: what runs is interrupted, what waits never starts", 1,
		func(ctx context.Context, c *tasker.Client, id uuid.UUID, _ []string, by tasker.By) (string, error) {
			return "cancelled", c.Cancel(ctx, id, by)
		})
}

func newTaskRetry(g *globals) *cobra.Command {
	return operation(g, "retry TASK", "Give all failed steps of a task fresh attempts", 1,
		func(ctx context.Context, c *tasker.Client, id uuid.UUID, _ []string, by tasker.By) (string, error) {
			return "goes on", c.Retry(ctx, id, by)
		})
}

func newStep(g *globals) *cobra.Command {
	var result string
	resolve := operation(g, "resolve TASK STEP", "Close a step by hand, so that what depends on it goes on", 2,
		func(ctx context.Context, c *tasker.Client, id uuid.UUID, args []string, by tasker.By) (string, error) {
			if result == "" {
				return "step resolved", c.ResolveStep(ctx, id, args[1], nil, by)
			}
			text, err := readInput(os.Stdin, result)
			if err != nil {
				return "", err
			}
			return "step complete", c.ResolveStep(ctx, id, args[1], text, by)
		})
	resolve.Flags().StringVar(&result, "result", "", "the step's result: JSON, @file or -; without one the step is resolved_manually")
	retry := operation(g, "retry TASK STEP", "Give a failed step fresh attempts, now", 2,
		func(ctx context.Context, c *tasker.Client, id uuid.UUID, args []string, by tasker.By) (string, error) {
			return "goes on", c.RetryStep(ctx, id, args[1], by)
		})
	return group("step", "Retry or resolve single steps", retry, resolve)
}

// operation makes a command that changes a task and needs a reason.
func operation(g *globals, use, short string, arguments int,
	fn func(ctx context.Context, c *tasker.Client, id uuid.UUID, args []string, by tasker.By) (string, error),
) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactly(arguments),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usageError{errors.New("give a --reason: it is kept with the task")}
			}
			return g.client(cmd.Context(), func(c *tasker.Client) error {
				id, err := c.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				done, err := fn(cmd.Context(), c, id, args, tasker.By{Actor: operator(), Reason: reason})
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "task %s %s\n", id, done)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept with the task (required)")
	return cmd
}

// exactly is cobra.ExactArgs as a usage error.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
		}
		return nil
	}
}
