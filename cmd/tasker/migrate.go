package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go/db/migration"
)

func newMigrate(g *globals) *cobra.Command {
	return group("migrate", "Make, remove and inspect the database schemas",
		newMigrateUp(g), newMigrateDown(g), newMigrateStatus(g), newMigrateSQL())
}

func (g *globals) pool(ctx context.Context, fn func(*pgxpool.Pool) error) error {
	pool, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	return fn(pool)
}

func newMigrateUp(g *globals) *cobra.Command {
	config := &migration.Config{}
	var lean bool
	cmd := &cobra.Command{
		Use: "up", Short: "Bring River's schema and Tasker's up to date", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("lean-river") {
				config.LeanRiver = &lean
			}
			return g.pool(cmd.Context(), func(pool *pgxpool.Pool) error {
				if err := migration.Up(cmd.Context(), pool, config); err != nil {
					return err //nolint:wrapcheck // worded for people
				}
				return printStatus(cmd, g, pool)
			})
		},
	}
	cmd.Flags().StringVar(&config.RiverSchema, "river-schema", env("RIVER_SCHEMA", ""),
		"schema of River's tables; default: where they are, else the first of the search path")
	cmd.Flags().BoolVar(&lean, "lean-river", false,
		"drop River's two GIN indexes, which nobody reads; =false makes them again (default: drop where tasker makes River's tables)")
	return cmd
}

func newMigrateDown(g *globals) *cobra.Command {
	var yes bool
	var to int64
	cmd := &cobra.Command{
		Use: "down", Short: "Remove Tasker's schema with all tasks; River's tables stay", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				return usageError{errors.New("this deletes every task and template: give --yes")}
			}
			return g.pool(cmd.Context(), func(pool *pgxpool.Pool) error {
				if err := migration.Down(cmd.Context(), pool, to); err != nil {
					return err //nolint:wrapcheck // worded for people
				}
				return printStatus(cmd, g, pool)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, delete")
	cmd.Flags().Int64Var(&to, "to", 0, "version to go down to")
	return cmd
}

func newMigrateStatus(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the versions of the schemas", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.pool(cmd.Context(), func(pool *pgxpool.Pool) error { return printStatus(cmd, g, pool) })
		},
	}
}

func printStatus(cmd *cobra.Command, g *globals, pool *pgxpool.Pool) error {
	status, err := migration.Get(cmd.Context(), pool)
	if err != nil {
		return err //nolint:wrapcheck // worded for people
	}
	if g.output == "json" {
		return printJSON(cmd.OutOrStdout(), status)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "tasker  version %d of %d\nriver   version %d in schema %q, lean %t\n",
		status.Version, status.Newest, status.RiverVersion, status.RiverSchema, status.LeanRiver)
	return nil
}

func newMigrateSQL() *cobra.Command {
	var river string
	cmd := &cobra.Command{
		Use: "sql", Short: "Print Tasker's migrations as SQL, for those who apply it by other means", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := migration.SQL(river)
			if err != nil {
				return usageError{err}
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			return err //nolint:wrapcheck // writing to the terminal
		},
	}
	cmd.Flags().StringVar(&river, "river-schema", "public", "schema of River's tables")
	return cmd
}
