package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// The exit codes of the command line; docs/cli.md lists them.
const (
	exitUnexpected  = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 5
	exitTimeout     = 6
	exitUnreachable = 7
	exitTaskError   = 8
	exitCancelled   = 9
	exitInterrupted = 130
)

// globals are the flags that every command has.
type globals struct {
	databaseURL string
	dir         string
	output      string
}

func newRoot() *cobra.Command {
	g := &globals{}
	serve := newServe(g)
	root := &cobra.Command{
		Use:   "tasker",
		Short: "Durable DAG workflows on nothing but Postgres",
		Long: `Durable DAG workflows on nothing but Postgres.

Without a command, tasker serves: it starts an embedded Postgres where no DATABASE_URL is given, and runs orchestrator,
worker and the reference workflows.`,
		Example: `  tasker serve
  tasker task create rust_e2e_linear/mathematical_sequence --input '{"even_number":6}' --wait`,
		Args:          known,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          serve.RunE,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains([]string{"table", "json", "id"}, g.output) {
				return usageError{fmt.Errorf("--output %q is not one of table, json, id", g.output)}
			}
			return nil
		},
	}
	root.Flags().AddFlagSet(serve.Flags())
	flags := root.PersistentFlags()
	flags.StringVar(&g.databaseURL, "database-url", os.Getenv("DATABASE_URL"),
		"Postgres to use (env DATABASE_URL); default: the embedded one of this folder")
	flags.Lookup("database-url").DefValue = "" // help would print the password
	flags.StringVar(&g.dir, "dir", ".tasker", "folder of the embedded Postgres")
	flags.StringVarP(&g.output, "output", "o", "table", "how results are printed: table, json or id")
	root.AddCommand(serve, newTask(g), newStep(g), newTemplate(g), newMigrate(g), newDoctor(g), newVerify(g), newHealth(), newVersion())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return root
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: known,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// known refuses arguments of commands that hold others: they are commands that do not exist.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += ": did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError{errors.New(text)}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), "tasker", version)
			return nil
		},
	}
}

// usageError is a mistake of the caller's.
type usageError struct{ error }

// Unwrap returns the mistake.
func (e usageError) Unwrap() error { return e.error }

// errDatabase marks what goes wrong before a database answers.
var errDatabase = errors.New("no database")

// connect opens the database that the flags, the environment or the running embedded Postgres name.
func (g *globals) connect(ctx context.Context) (*pgxpool.Pool, error) {
	url := g.databaseURL
	if url == "" {
		var err error
		if url, err = embeddedpg.Find(g.dir); err != nil { //nolint:contextcheck // it has its own short time limit
			return nil, fmt.Errorf("%w: %w; start `tasker` in this folder, or set DATABASE_URL", errDatabase, err)
		}
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, usageError{fmt.Errorf("read DATABASE_URL: %w", err)}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDatabase, err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("%w: %w", errDatabase, err)
	}
	return pool, nil
}

// client opens a client that creates, inspects and controls, and runs fn with it.
func (g *globals) client(ctx context.Context, fn func(*tasker.Client) error) error {
	pool, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := tasker.NewClient(pool, &tasker.Config{ID: operator()})
	if err != nil {
		return fmt.Errorf("open client: %w", err)
	}
	return errors.Join(fn(client), client.Stop(context.WithoutCancel(ctx)))
}

// operator names the person for the audit trail.
func operator() string {
	for _, name := range []string{"TASKER_ACTOR", "USER", "LOGNAME"} {
		if who := os.Getenv(name); who != "" {
			return who
		}
	}
	return "tasker-cli"
}

// exitCode prints the error, if any, and translates it.
func exitCode(ctx context.Context, root *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[codedError](err); ok {
		printError(root.ErrOrStderr(), err)
		return code.code
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return exitInterrupted
	}
	printError(root.ErrOrStderr(), err)
	return classify(err)
}

func printError(w io.Writer, err error) {
	if text := err.Error(); text != "" {
		fmt.Fprintln(w, "✗", plain(text)) // it may quote a handler's
	}
}

// codedError carries its own exit code.
type codedError struct {
	error
	code int
}

// Unwrap returns the cause.
func (e codedError) Unwrap() error { return e.error }

func classify(err error) int {
	var usage usageError
	var request *tasker.RequestError
	var template *tasker.TemplateError
	var conflict *tasker.ConflictError
	var ended *tasker.EndedError
	switch {
	case errors.Is(err, tasker.ErrTaskNotFound), errors.Is(err, tasker.ErrTemplateNotFound), errors.Is(err, tasker.ErrStepNotFound):
		return exitNotFound
	case errors.As(err, &usage), errors.As(err, &request), errors.As(err, &template), errors.Is(err, tasker.ErrAmbiguous):
		return exitUsage
	case errors.As(err, &conflict):
		return exitConflict
	case errors.As(err, &ended) && ended.Task.State == dag.TaskCancelled:
		return exitCancelled
	case errors.As(err, &ended):
		return exitTaskError
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, errDatabase), tasker.IsUnavailable(err), tasker.IsSchemaMismatch(err):
		return exitUnreachable
	}
	return exitUnexpected
}
