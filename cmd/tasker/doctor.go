package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go"
)

// The exit codes of doctor.
const (
	exitViolations = 1
	exitUnchecked  = 2
)

// doctorFlags are those of `tasker doctor`.
type doctorFlags struct {
	asJSON, dryRun bool
	repair         []string
	maxRows        int
	age            time.Duration
}

func newDoctor(g *globals) *cobra.Command {
	f := &doctorFlags{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Prove on the live database that nothing is lost, stuck or double",
		Long: `Prove on the live database that nothing is lost, stuck or double.

Exit code 0: clean; 1: violations; 2: could not check. Warnings (OP checks) do not change it.`,
		Example: "  tasker doctor\n  tasker doctor --repair I13,I21 --dry-run",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := g.client(cmd.Context(), func(c *tasker.Client) error { return f.run(cmd, g, c) })
			var coded codedError
			if err != nil && !errors.As(err, &coded) {
				return codedError{err, exitUnchecked}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.asJSON, "json", false, "print the checks as JSON")
	flags.StringSliceVar(&f.repair, "repair", nil, "checks to mend: I05, I12, I13, I14, I15, I21, or all")
	flags.BoolVar(&f.dryRun, "dry-run", false, "with --repair: say what would be mended")
	flags.IntVar(&f.maxRows, "max-rows", 20, "how much each check lists")
	flags.DurationVar(&f.age, "age", 15*time.Second, "how old something must be for the checks about time")
	return cmd
}

func (f *doctorFlags) run(cmd *cobra.Command, g *globals, c *tasker.Client) error {
	checks, err := c.Doctor(cmd.Context(), f.age, f.maxRows)
	if err != nil {
		return err
	}
	if f.asJSON || g.output == "json" {
		if err := printJSON(cmd.OutOrStdout(), checks); err != nil {
			return err
		}
	} else {
		printChecks(cmd.OutOrStdout(), checks)
	}
	if len(f.repair) > 0 {
		if checks, err = f.mend(cmd, c, checks); err != nil {
			return err
		}
	}
	if n := violations(checks); n > 0 {
		return codedError{fmt.Errorf("%d of the invariants are broken", n), exitViolations}
	}
	return nil
}

func violations(checks []tasker.Check) int {
	n := 0
	for _, check := range checks {
		if !check.Warning && len(check.Found) > 0 {
			n++
		}
	}
	return n
}

func printChecks(w io.Writer, checks []tasker.Check) {
	for _, check := range checks {
		mark := "✓"
		if len(check.Found) > 0 {
			if mark = "✗"; check.Warning {
				mark = "!"
			}
		}
		fmt.Fprintf(w, "%s %-4s %s\n", mark, check.ID, check.Title)
		for _, found := range check.Found {
			fmt.Fprintf(w, "       %s\n", plain(found))
		}
		if len(check.Found) > 0 && check.Repairable {
			fmt.Fprintf(w, "       mend it: tasker doctor --repair %s\n", check.ID)
		}
	}
}

// mend repairs what is broken among the named checks, and examines again.
func (f *doctorFlags) mend(cmd *cobra.Command, c *tasker.Client, checks []tasker.Check) ([]tasker.Check, error) {
	broken, err := f.broken(checks)
	if err != nil {
		return nil, err
	}
	if len(broken) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing to repair")
		return checks, nil
	}
	if f.dryRun {
		fmt.Fprintln(cmd.ErrOrStderr(), "would repair", strings.Join(broken, ", "))
		return checks, nil
	}
	done, err := c.Repair(cmd.Context(), broken, f.age)
	if err != nil {
		return nil, err
	}
	for _, line := range done {
		fmt.Fprintln(cmd.ErrOrStderr(), line)
	}
	return c.Doctor(cmd.Context(), f.age, f.maxRows)
}

// broken returns the named checks that found something.
func (f *doctorFlags) broken(checks []tasker.Check) ([]string, error) {
	all := slices.Contains(f.repair, "all")
	known := map[string]bool{"all": true}
	var broken []string
	for _, check := range checks {
		known[check.ID] = true
		named := slices.Contains(f.repair, check.ID)
		if named && !check.Repairable {
			return nil, usageError{fmt.Errorf("%s cannot be repaired by dispatching again; see docs/guarantees.md", check.ID)}
		}
		if (named || all) && check.Repairable && len(check.Found) > 0 {
			broken = append(broken, check.ID)
		}
	}
	for _, name := range f.repair {
		if !known[name] {
			return nil, usageError{fmt.Errorf("--repair: there is no check %q", name)}
		}
	}
	return broken, nil
}
