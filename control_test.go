package tasker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

var ops = tasker.By{Actor: "ada", Reason: "because"}

func math(templates ...tasker.Template) *tasker.Config {
	return &tasker.Config{
		Templates: templates, Orchestrate: true,
		Namespaces: map[string]tasker.NamespaceConfig{"math": {MaxWorkers: 10}},
	}
}

// endless is a workflow whose first step runs until its context ends, and says why it did.
func endless(started chan<- struct{}, cause chan<- error) *tasker.Workflow[number] {
	return tasker.Define("math/endless", "1.0.0", func(f *tasker.Flow[number]) {
		one := tasker.Step(f, "one", func(ctx context.Context, _ number) (int, error) {
			started <- struct{}{}
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return 0, ctx.Err()
		})
		tasker.Step1(f, "two", square, one)
	}, tasker.WithIdentity(tasker.IdentityAlwaysUnique))
}

func TestCancellingATaskInterruptsItsHandlerAndNothingStartsAfterwards(t *testing.T) {
	t.Parallel()
	started, cause := make(chan struct{}, 1), make(chan error, 1)
	workflow := endless(started, cause)
	client := start(t, dbtest.Pool(t), math(workflow))
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{})
	require.NoError(t, err)
	<-started
	began := time.Now()
	require.NoError(t, client.Cancel(ctx, run.ID, ops))
	require.Error(t, <-cause)
	require.Less(t, time.Since(began), 3*time.Second, "well before the next heartbeat")

	var ended *tasker.EndedError
	_, err = run.Wait(ctx)
	require.ErrorAs(t, err, &ended)
	require.Equal(t, dag.TaskCancelled, ended.Task.State)
	require.Equal(t, dag.StepCancelled, ended.Task.Step("two").State)

	var conflict *tasker.ConflictError
	require.ErrorAs(t, client.Cancel(ctx, run.ID, ops), &conflict)
	require.Equal(t, "the task is already cancelled; only a task that has not ended can be cancelled", conflict.Reason)
	history, err := client.History(ctx, run.ID)
	require.NoError(t, err)
	require.Contains(t, history, tasker.Change{
		At: history[len(history)-1].At, From: "steps_in_process", To: "cancelled", Note: "cancel_task by ada: because",
	})
}

func TestOperatorActionsNeedAReasonAndAnExistingTask(t *testing.T) {
	t.Parallel()
	client := start(t, dbtest.Pool(t), math(chain))
	ctx := patience(t)
	var request *tasker.RequestError
	require.ErrorAs(t, client.Cancel(ctx, uuid.New(), tasker.By{Actor: "ada"}), &request)
	require.ErrorIs(t, client.Cancel(ctx, uuid.New(), ops), tasker.ErrTaskNotFound)
	require.ErrorIs(t, client.RetryStep(ctx, uuid.New(), "one", ops), tasker.ErrTaskNotFound)
}

func TestRetryingAFailedTaskResetsAttemptsAndGoesOn(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	broken.Store(true)
	workflow := tasker.Define("math/mended", "1.0.0", func(f *tasker.Flow[number]) {
		one := tasker.Step(f, "one", func(_ context.Context, in number) (int, error) {
			if broken.Load() {
				return 0, errors.New("broken")
			}
			return in.N, nil
		}, tasker.Retry(2, time.Millisecond))
		tasker.Step1(f, "two", square, one)
	})
	client := start(t, dbtest.Pool(t), math(workflow))
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{N: 5})
	require.NoError(t, err)
	_, err = run.Wait(ctx)
	require.ErrorContains(t, err, "one: broken (2 of 2 attempts)")

	var conflict *tasker.ConflictError
	require.ErrorAs(t, client.RetryStep(ctx, run.ID, "two", ops), &conflict)
	require.Equal(t, `step "two" is pending; only one in error or waiting_for_retry can be retried`, conflict.Reason)
	broken.Store(false)
	require.NoError(t, client.Retry(ctx, run.ID, ops))
	task, err := run.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, task.Step("one").Attempts, "attempts start anew")
	require.ErrorAs(t, client.Retry(ctx, run.ID, ops), &conflict, "a complete task")
}

func TestAStepResolvedByHandLetsItsDependentsGoOn(t *testing.T) {
	t.Parallel()
	started, cause := make(chan struct{}, 2), make(chan error, 2)
	workflow := endless(started, cause)
	client := start(t, dbtest.Pool(t), math(workflow))
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{})
	require.NoError(t, err)
	<-started
	var conflict *tasker.ConflictError
	require.ErrorAs(t, client.ResolveStep(ctx, run.ID, "two", 1, ops), &conflict, "its parent has not finished")
	require.NoError(t, client.ResolveStep(ctx, run.ID, "one", 9, ops), "while it runs")
	require.Error(t, <-cause, "its handler is interrupted")
	_, err = run.Wait(ctx)
	require.NoError(t, err)
	result, err := tasker.Result[int](ctx, run, "two")
	require.NoError(t, err)
	require.Equal(t, 81, result)

	other, err := tasker.Create(ctx, client, workflow, number{})
	require.NoError(t, err)
	<-started
	require.NoError(t, client.ResolveStep(ctx, other.ID, "one", nil, ops))
	task, err := other.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, dag.StepResolvedManually, task.Step("one").State)
	require.Equal(t, "0", string(task.Step("two").Result), "no result reads as zero")
}

func TestATaskThatBlocksOnFailureWaitsForAnOperator(t *testing.T) {
	t.Parallel()
	workflow := tasker.Define("math/blocks", "1.0.0", func(f *tasker.Flow[number]) {
		tasker.Step(f, "one", func(context.Context, number) (int, error) { return 0, tasker.Permanent(errors.New("no")) })
	}, tasker.BlockOnFailure())
	client := start(t, dbtest.Pool(t), math(workflow))
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{})
	require.NoError(t, err)
	var ended *tasker.EndedError
	_, err = run.Wait(ctx)
	require.ErrorAs(t, err, &ended)
	require.Equal(t, dag.TaskBlockedByFailures, ended.Task.State)
	require.NoError(t, client.ResolveStep(ctx, run.ID, "one", 1, ops))
	_, err = run.Wait(ctx)
	require.NoError(t, err)
}

func TestAContextThatBreaksItsSchemaInSQLEndsTheTaskAndCanBeRetried(t *testing.T) {
	t.Parallel()
	workflow := tasker.Define("math/strict", "1.0.0", func(f *tasker.Flow[number]) {
		tasker.Step(f, "one", func(_ context.Context, in number) (int, error) { return in.N, nil })
	}, tasker.WithInputSchema(map[string]any{"type": "object", "required": []string{"n"}}))
	pool := dbtest.Pool(t)
	client := start(t, pool, math(workflow))
	ctx := patience(t)
	var id uuid.UUID
	require.NoError(t, pool.QueryRow(ctx, `SELECT tasker.create_task('math', 'strict', '{"x": 1}')`).Scan(&id))
	_, err := client.Wait(ctx, id)
	require.ErrorContains(t, err, "context does not fit the template's input_schema: context: missing property 'n'")
	_, err = pool.Exec(ctx, `UPDATE tasker.tasks SET context = '{"n": 3}' WHERE id = $1`, id)
	require.NoError(t, err)
	require.NoError(t, client.Retry(ctx, id, ops))
	task, err := client.Wait(ctx, id)
	require.NoError(t, err)
	require.Equal(t, "3", string(task.Step("one").Result))
}

// later is a task that does not start during a test.
func later(ctx context.Context, t *testing.T, client *tasker.Client) *tasker.Run {
	t.Helper()
	run, err := tasker.Create(ctx, client, chain, number{N: 1}, tasker.RunAt(time.Now().Add(time.Hour)))
	require.NoError(t, err)
	return run
}
