package tasker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// Each example is a program of its own; in yours, the pool comes from pgxpool.New(ctx, os.Getenv("DATABASE_URL")).
var examplePool = dbtest.ExamplePool

type order struct {
	ID    string `json:"id"`
	Cents int    `json:"cents"`
}

type receipt struct{ TxID string }

type hold struct{ Bin string }

func charge(ctx context.Context, o order) (receipt, error) {
	if o.Cents <= 0 {
		return receipt{}, tasker.WithCode(tasker.Permanent(errors.New("nothing to charge")), "BAD_AMOUNT")
	}
	return receipt{TxID: fmt.Sprintf("tx-%s-%d", o.ID, tasker.Attempt(ctx))}, nil
}

func reserve(context.Context, order) (hold, error) { return hold{Bin: "A7"}, nil }

func ship(_ context.Context, o order, r receipt, h hold) (string, error) {
	return o.ID + "/" + r.TxID + "/" + h.Bin, nil
}

var fulfil = tasker.Define("orders/fulfil", "1.0.0", func(f *tasker.Flow[order]) {
	paid := tasker.Step(f, "charge", charge, tasker.Retry(5, 10*time.Millisecond), tasker.Timeout(time.Minute))
	held := tasker.Step(f, "reserve", reserve)
	tasker.Step2(f, "ship", ship, paid, held)
})

// run starts a client that does everything, and stops it after the example.
func run(ctx context.Context, pool *pgxpool.Pool, config *tasker.Config, fn func(client *tasker.Client)) {
	config.Orchestrate = true
	config.Namespaces = map[string]tasker.NamespaceConfig{"orders": {MaxWorkers: 10}}
	client, err := tasker.NewClient(pool, config)
	if err != nil {
		panic(err)
	}
	if err := client.Start(ctx); err != nil {
		panic(err)
	}
	fn(client)
	if err := client.Stop(ctx); err != nil {
		panic(err)
	}
}

// A workflow is plain functions; their arguments are the dependencies.
func Example() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	run(ctx, pool, &tasker.Config{Templates: []tasker.Template{fulfil}}, func(client *tasker.Client) {
		created, err := tasker.Create(ctx, client, fulfil, order{ID: "o-7", Cents: 1200}, tasker.Key("o-7"))
		if err != nil {
			panic(err)
		}
		task, err := created.Wait(ctx)
		if err != nil {
			panic(err)
		}
		label, err := tasker.Result[string](ctx, created, "ship")
		fmt.Println(task.State, label, err)
	})
	// Output: complete o-7/tx-o-7-1/A7 <nil>
}

// The task exists if and only if the caller's transaction commits.
func ExampleCreateTx() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	run(ctx, pool, &tasker.Config{Templates: []tasker.Template{fulfil}}, func(client *tasker.Client) {
		var created *tasker.Run
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
			if _, err = tx.Exec(ctx, "CREATE TABLE orders (id text)"); err != nil {
				return err
			}
			created, err = tasker.CreateTx(ctx, client, tx, fulfil, order{ID: "o-8", Cents: 5})
			return err
		})
		if err != nil {
			panic(err)
		}
		task, err := created.Wait(ctx)
		fmt.Println(task.State, err)
	})
	// Output: complete <nil>
}

// The same identity is the same task; a duplicate says so.
func ExampleKey() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	run(ctx, pool, &tasker.Config{Templates: []tasker.Template{fulfil}}, func(client *tasker.Client) {
		first, err := tasker.Create(ctx, client, fulfil, order{ID: "a", Cents: 1}, tasker.Key("order-a"))
		if err != nil {
			panic(err)
		}
		second, err := tasker.Create(ctx, client, fulfil, order{ID: "b", Cents: 2}, tasker.Key("order-a"))
		fmt.Println(second.Duplicate, first.ID == second.ID, err)
	})
	// Output: true true <nil>
}

// A failure that trying again will not mend ends the step at once; an operator may correct it and go on.
func ExampleClient_ResolveStep() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	run(ctx, pool, &tasker.Config{Templates: []tasker.Template{fulfil}}, func(client *tasker.Client) {
		created, err := tasker.Create(ctx, client, fulfil, order{ID: "free", Cents: 0})
		if err != nil {
			panic(err)
		}
		_, err = created.Wait(ctx)
		var ended *tasker.EndedError
		fmt.Println(errors.As(err, &ended), ended.Task.State, ended.Task.Problem)

		by := tasker.By{Actor: "ops", Reason: "a present"}
		if err := client.ResolveStep(ctx, created.ID, "charge", receipt{TxID: "none"}, by); err != nil {
			panic(err)
		}
		if _, err := created.Wait(ctx); err != nil {
			panic(err)
		}
		label, err := tasker.Result[string](ctx, created, "ship")
		fmt.Println(label, err)
	})
	// Output:
	// true error charge: BAD_AMOUNT: nothing to charge (permanent)
	// free/none/A7 <nil>
}

// What a handler writes in its own transaction and the step's result commit together: the effect happens exactly once.
func ExampleCompleteTx() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	if _, err := pool.Exec(ctx, "CREATE TABLE ledger (entry text PRIMARY KEY)"); err != nil {
		panic(err)
	}
	book := tasker.Define("orders/book", "1.0.0", func(f *tasker.Flow[order]) {
		tasker.Step(f, "book", func(ctx context.Context, o order) (string, error) {
			return o.ID, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "INSERT INTO ledger VALUES ($1)", tasker.IdempotencyKeyFrom(ctx)); err != nil {
					return err
				}
				return tasker.CompleteTx(ctx, tx, o.ID)
			})
		})
	})
	run(ctx, pool, &tasker.Config{Templates: []tasker.Template{book}}, func(client *tasker.Client) {
		created, err := tasker.Create(ctx, client, book, order{ID: "o-9"})
		if err != nil {
			panic(err)
		}
		task, err := created.Wait(ctx)
		var entries int
		if err := pool.QueryRow(ctx, "SELECT count(*) FROM ledger").Scan(&entries); err != nil {
			panic(err)
		}
		fmt.Println(task.State, err, entries)
	})
	// Output: complete <nil> 1
}

// A template may be YAML; its handlers are named.
func ExampleParseTemplate() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	template, err := tasker.ParseTemplate("greet.yaml", []byte(`
name: greet
namespace_name: orders
version: 1.0.0
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
steps:
  - name: hello
    handler: {callable: greet.hello}
  - name: shout
    dependencies: [hello]
    handler: {callable: greet.shout, initialization: {mark: "!"}}
`))
	if err != nil {
		panic(err)
	}
	config := &tasker.Config{
		Templates: []tasker.Template{template},
		Handlers: map[string]tasker.HandlerFunc{
			"greet.hello": func(_ context.Context, step *tasker.StepContext) (any, error) {
				var in struct{ Name string }
				err := step.Context(&in)
				return "hello " + in.Name, err
			},
			"greet.shout": func(_ context.Context, step *tasker.StepContext) (any, error) {
				var hello string
				err := step.Result("hello", &hello)
				return fmt.Sprint(hello, step.Config()["mark"]), err
			},
		},
	}
	run(ctx, pool, config, func(client *tasker.Client) {
		_, err := client.Create(ctx, tasker.Request{Namespace: "orders", Name: "greet", Context: map[string]any{"name": 7}})
		fmt.Println(err)
		created, err := client.Create(ctx, tasker.Request{Namespace: "orders", Name: "greet", Context: map[string]any{"name": "Ada"}})
		if err != nil {
			panic(err)
		}
		if _, err := created.Wait(ctx); err != nil {
			panic(err)
		}
		shout, err := tasker.Result[string](ctx, created, "shout")
		fmt.Println(shout, err)
	})
	// Output:
	// context does not fit the template's input_schema: context.name: got number, want string
	// hello Ada! <nil>
}

// Any number of tasks are created in one transaction and a few statements.
func ExampleCreateMany() {
	ctx := context.Background()
	pool, done := examplePool()
	defer done()
	run(ctx, pool, &tasker.Config{Templates: []tasker.Template{fulfil}}, func(client *tasker.Client) {
		orders := make([]order, 100)
		for i := range orders {
			orders[i] = order{ID: fmt.Sprint("bulk-", i), Cents: 1}
		}
		runs, err := tasker.CreateMany(ctx, client, fulfil, orders)
		if err != nil {
			panic(err)
		}
		for _, created := range runs {
			if _, err := created.Wait(ctx); err != nil {
				panic(err)
			}
		}
		fmt.Println(len(runs))
	})
	// Output: 100
}
