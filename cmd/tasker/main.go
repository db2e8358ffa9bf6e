// Command tasker is Tasker in one binary: orchestrator, worker and the tools of an operator.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker when a release is built.
var version = "0.1.0-dev"

func main() { os.Exit(run()) }

// run gives the first SIGINT or SIGTERM to the command, as the end of its context, and the second to the process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // from here on the default applies: a second signal ends the process
	}()
	root := newRoot()
	err := root.ExecuteContext(ctx)
	return exitCode(ctx, root, err)
}
