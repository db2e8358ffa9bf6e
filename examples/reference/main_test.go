package reference_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/examples/reference"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// start runs a client of the reference workflows, and of extra templates that use their handlers, on a database of its own.
func start(t *testing.T, environment string, extra ...tasker.Template) *tasker.Client {
	t.Helper()
	templates, err := reference.Templates()
	require.NoError(t, err)
	config := &tasker.Config{
		Templates: append(templates, extra...), Handlers: reference.Handlers(), Orchestrate: true, Environment: environment,
		Namespaces: make(map[string]tasker.NamespaceConfig),
		Logger:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, name := range reference.Namespaces() {
		config.Namespaces[name] = tasker.NamespaceConfig{}
	}
	client, err := tasker.NewClient(dbtest.Pool(t), config)
	require.NoError(t, err)
	require.NoError(t, client.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, client.Stop(context.WithoutCancel(t.Context()))) })
	return client
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func request(namespace, name, input string) tasker.Request {
	return tasker.Request{Namespace: namespace, Name: name, Context: json.RawMessage(input)}
}

func create(t *testing.T, client *tasker.Client, namespace, name, input string) *tasker.Run {
	t.Helper()
	run, err := client.Create(patience(t), request(namespace, name, input))
	require.NoError(t, err)
	return run
}

// complete runs a task to its end and returns it.
func complete(t *testing.T, client *tasker.Client, namespace, name, input string) *tasker.Task {
	t.Helper()
	task, err := create(t, client, namespace, name, input).Wait(patience(t))
	require.NoError(t, err)
	require.Equal(t, "complete", string(task.State))
	return task
}

// fail runs a task to its end in error and returns it.
func fail(t *testing.T, client *tasker.Client, namespace, name, input string) *tasker.Task {
	t.Helper()
	_, err := create(t, client, namespace, name, input).Wait(patience(t))
	var ended *tasker.EndedError
	require.ErrorAs(t, err, &ended)
	require.Equal(t, "error", string(ended.Task.State))
	return ended.Task
}

// parse makes a template of YAML.
func parse(t *testing.T, text string) tasker.Template {
	t.Helper()
	template, err := tasker.ParseTemplate("test.yaml", []byte(text))
	require.NoError(t, err)
	return template
}
