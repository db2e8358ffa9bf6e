package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func newTemplate(g *globals) *cobra.Command {
	return group("template", "Validate, list and draw templates",
		newTemplateList(g), newTemplateShow(g), newTemplateValidate(), newTemplateGraph(g))
}

func newTemplateList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the registered templates", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd.Context(), func(c *tasker.Client) error {
				list, err := c.Templates(cmd.Context())
				if err != nil {
					return err
				}
				if g.output == "json" {
					return printJSON(cmd.OutOrStdout(), list)
				}
				table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
				fmt.Fprintln(table, "TEMPLATE\tVERSION\tSTEPS\tIDENTITY")
				for _, t := range list {
					fmt.Fprintf(table, "%s/%s\t%s\t%d\t%s\n", t.Namespace, t.Name, t.Version, t.Steps, t.Identity)
				}
				return table.Flush()
			})
		},
	}
}

func newTemplateShow(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "show NAMESPACE/NAME[@VERSION]", Short: "Show a registered template as JSON", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			definition, err := g.template(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), definition)
		},
	}
}

// template reads a template from a file, where the name has a YAML extension, or from the database.
func (g *globals) template(ctx context.Context, name string) (*tasker.Definition, error) {
	if strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		template, err := parseFile(name)
		if err != nil {
			return nil, err
		}
		definition := template.Definition()
		return &definition, nil
	}
	namespace, rest, ok := strings.Cut(name, "/")
	if !ok {
		return nil, usageError{fmt.Errorf("%q is not NAMESPACE/NAME[@VERSION] or a YAML file", name)}
	}
	short, version, _ := strings.Cut(rest, "@")
	var found *tasker.Definition
	err := g.client(ctx, func(c *tasker.Client) (err error) {
		found, err = c.Template(ctx, namespace, short, version)
		return err
	})
	return found, err
}

func parseFile(name string) (tasker.Template, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("read template: %w", err)}
	}
	return tasker.ParseTemplate(name, text)
}

func newTemplateValidate() *cobra.Command {
	return &cobra.Command{
		Use: "validate FILE…", Short: "Check templates: every problem with line and column",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("usage: %s", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				template, err := parseFile(name)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				d := template.Definition()
				fmt.Fprintf(cmd.OutOrStdout(), "✓ %s: %s, %d steps\n", name, d.ID(), len(d.Steps))
			}
			if err := errors.Join(errs...); err != nil {
				return codedError{err, exitUsage}
			}
			return nil
		},
	}
}

func newTemplateGraph(g *globals) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "graph NAMESPACE/NAME[@VERSION]|FILE", Short: "Draw a template", Args: exactly(1),
		Example: "  tasker template graph rust_e2e_tree/hierarchical_tree --format mermaid",
		RunE: func(cmd *cobra.Command, args []string) error {
			definition, err := g.template(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			graph, err := dag.Compile(*definition)
			if err != nil {
				return codedError{err, exitUsage}
			}
			switch format {
			case "mermaid":
				return mermaid(cmd.OutOrStdout(), graph)
			case "text":
				return ranks(cmd.OutOrStdout(), graph)
			}
			return usageError{fmt.Errorf("--format %q is not one of text, mermaid", format)}
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or mermaid")
	return cmd
}

// mermaid prints the graph as GitHub and others render it.
func mermaid(w io.Writer, graph *dag.Graph) error {
	fmt.Fprintln(w, "graph TD")
	ids := make(map[string]string)
	for i, name := range graph.Order() {
		ids[name] = fmt.Sprintf("s%d", i)
		fmt.Fprintf(w, "    %s[%q]\n", ids[name], name)
	}
	for _, name := range graph.Order() {
		for _, child := range graph.Children(name) {
			fmt.Fprintf(w, "    %s --> %s\n", ids[name], ids[child])
		}
	}
	return nil
}

// ranks prints the steps by how soon they can run, each with what it waits for.
func ranks(w io.Writer, graph *dag.Graph) error {
	rank := make(map[string]int)
	for _, name := range graph.Order() {
		for _, parent := range graph.Parents(name) {
			rank[name] = max(rank[name], rank[parent]+1)
		}
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for level, left := 0, len(rank); left >= 0 && level <= len(graph.Order()); level++ {
		for _, name := range graph.Order() {
			if rank[name] == level {
				waits := strings.Join(graph.Parents(name), ", ")
				if waits != "" {
					waits = "\t← " + waits
				}
				fmt.Fprintf(table, "%d\t%s%s\n", level+1, name, waits)
			}
		}
	}
	return table.Flush() //nolint:wrapcheck // writing to the terminal
}
