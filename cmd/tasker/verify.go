package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go/cmd/tasker/internal/verify"
)

func newVerify(g *globals) *cobra.Command {
	return group("verify", "Prove what Tasker exports", newVerifyTelemetry(g))
}

// resultsFolder is where results belong in Tasker's own repository.
const resultsFolder = "docs/observability"

// verifyFlags are those of `tasker verify telemetry`.
type verifyFlags struct {
	verify.Options

	report string
}

func newVerifyTelemetry(g *globals) *cobra.Command {
	f := &verifyFlags{}
	cmd := &cobra.Command{
		Use:   "telemetry",
		Short: "Prove metrics, traces and logs with real tasks",
		Long: `Prove metrics, traces and logs with real tasks.

Starts a Postgres of its own, unless one is given, and a tasker serve; runs tasks; takes its own Postgres away for a moment; and
checks what arrived over OTLP. With the URL of a backend it asks that instead: telemetry then goes where
OTEL_EXPORTER_OTLP_ENDPOINT says. A Postgres that is given must not be worked by another tasker.

Exit code 0: all as promised; 1: some checks failed.`,
		Example: `  tasker verify telemetry
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 tasker verify telemetry \
    --prometheus http://localhost:9090 --tempo http://localhost:3200 --loki http://localhost:3100`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, g) },
	}
	flags := cmd.Flags()
	flags.IntVar(&f.Tasks, "tasks", 26, fmt.Sprintf("how many tasks to create in rapid succession, up to %d", verify.MaxTasks))
	flags.StringVar(&f.report, "report", "",
		"file for the results, as Markdown; default: VERIFICATION_RESULTS.md in "+resultsFolder+", where that folder is, else none")
	flags.StringVar(&f.Prometheus, "prometheus", "", "URL of a Prometheus to ask")
	flags.StringVar(&f.Tempo, "tempo", "", "URL of a Tempo to ask")
	flags.StringVar(&f.Loki, "loki", "", "URL of a Loki to ask")
	return cmd
}

func (f *verifyFlags) run(cmd *cobra.Command, g *globals) error {
	if err := f.check(); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find tasker's own file: %w", err)
	}
	f.DatabaseURL, f.Executable, f.Version, f.Environ = g.databaseURL, executable, version, os.Environ()
	f.Say = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
	report, err := verify.Run(cmd.Context(), &f.Options)
	if err != nil {
		return err
	}
	if g.output == "json" {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		err = report.WriteText(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if err := f.write(report); err != nil {
		return err
	}
	if n := report.Count(verify.Failed); n > 0 {
		return codedError{fmt.Errorf("%d checks failed", n), exitViolations}
	}
	return nil
}

func (f *verifyFlags) check() error {
	if f.Tasks < 1 || f.Tasks > verify.MaxTasks {
		return usageError{fmt.Errorf("--tasks %d is not one of 1 to %d", f.Tasks, verify.MaxTasks)}
	}
	for flag, text := range map[string]string{"prometheus": f.Prometheus, "tempo": f.Tempo, "loki": f.Loki} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" {
			return usageError{fmt.Errorf("--%s is not a URL such as http://localhost:9090", flag)}
		}
	}
	return nil
}

// write stores the results where the flags, or the folder, say.
func (f *verifyFlags) write(report *verify.Report) error {
	path := f.report
	if path == "" {
		if info, err := os.Stat(resultsFolder); err != nil || !info.IsDir() {
			return nil //nolint:nilerr // not in Tasker's repository
		}
		path = filepath.Join(resultsFolder, "VERIFICATION_RESULTS.md")
	}
	var text bytes.Buffer
	if err := report.WriteMarkdown(&text); err != nil {
		return err
	}
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil { //nolint:gosec // nothing secret in it
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
