package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Options say what is verified, and with what.
type Options struct {
	// Tasks is how many mathematical_sequence tasks are created in rapid succession, 1 to [MaxTasks].
	Tasks int
	// DatabaseURL is the Postgres to use. Empty: one of its own, in a temporary folder.
	DatabaseURL string
	// Executable is the tasker that serves, Version what it is called.
	Executable, Version string
	// Prometheus, Tempo and Loki are the URLs of backends to ask. With any of them telemetry goes where Environ says; with
	// none it goes to a receiver in this process.
	Prometheus, Tempo, Loki string
	// Environ is the environment, as os.Environ returns it.
	Environ []string
	// Say is told what happens.
	Say func(text string)
}

// MaxTasks is how many tasks may be asked for: a task has to be found by its correlation_id, and a process labels no more.
const MaxTasks = 500

// backends tells whether backends are asked rather than the receiver.
func (o *Options) backends() bool { return o.Prometheus != "" || o.Tempo != "" || o.Loki != "" }

// Run runs tasks and checks what was exported of them. An error says that this was not possible.
func Run(ctx context.Context, options *Options) (report *Report, err error) {
	s := &stage{options: options, instance: "verify-" + uuid.NewString()[:8]}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	began := time.Now()
	if err := s.play(ctx); err != nil {
		if s.server != nil {
			err = fmt.Errorf("%w; the output of tasker serve ends with\n%s", err, s.server.tail())
		}
		return nil, err
	}
	e := s.evidence()
	report = newReport(s, e, began)
	if options.backends() {
		options.Say("asking the backends, for up to a minute each")
		report.Checks = examine(e, localChecks())
		report.Queries = askAll(ctx, options, subjectOf(s).queries(), began)
	} else {
		report.Checks = examine(e, checks())
		report.Queries = documented()
	}
	report.Took = time.Since(began).Milliseconds()
	return report, nil
}

// play runs everything that is to be seen, and ends it.
func (s *stage) play(ctx context.Context) error {
	s.options.Say("starting Postgres, a receiver and tasker serve")
	if err := s.open(ctx); err != nil {
		return err
	}
	s.options.Say(fmt.Sprintf("running %d tasks of %s, and a few others", s.options.Tasks, sequence.name))
	for _, act := range []func(context.Context) error{s.burst, s.scrape, s.exported, s.interrupt, s.finish} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	s.options.Say("stopping tasker serve")
	s.end = s.server.stop(stopPatience)
	if err := s.client.Stop(ctx); err != nil {
		return fmt.Errorf("stop client: %w", err)
	}
	s.providers.Shutdown(ctx)
	return nil
}

// evidence is what there is after the end.
func (s *stage) evidence() *evidence {
	output, _ := s.server.read()
	e := &evidence{
		requested: s.options.Tasks, version: s.options.Version, folder: s.dir + "/none", tasks: s.tasks, page: s.page, output: output,
		end: s.end, warnings: s.warnings.String(), outage: s.outage,
	}
	if s.receiver != nil {
		snapshot := s.receiver.Snapshot()
		e.metrics, e.spans, e.logs = snapshot.Metrics(), snapshot.Spans, snapshot.Logs
	}
	return e.prepare()
}
