package tasker

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// Check is one check of [Client.Doctor].
type Check = orchestration.Check

const (
	defaultDoctorAge  = 15 * time.Second
	defaultDoctorRows = 20
)

// Doctor proves the invariants that Tasker promises on the live database, without changing anything. age is how old
// something must be before the checks about time count it (0 is 15 s), maxRows how much each check lists (0 is 20).
func (c *Client) Doctor(ctx context.Context, age time.Duration, maxRows int) ([]Check, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	if age == 0 {
		age = defaultDoctorAge
	}
	if maxRows == 0 {
		maxRows = defaultDoctorRows
	}
	var checks []Check
	err = db.InSnapshot(ctx, c.pool, "examine", func(ctx context.Context, tx pgx.Tx) (err error) {
		checks, err = engine.Doctor(ctx, tx, orchestration.DoctorOptions{Age: age, MaxRows: maxRows})
		return err
	})
	return checks, err
}

// Repair mends what the named checks found, by dispatching again through the usual fenced ways; it returns a line for each
// thing it did.
func (c *Client) Repair(ctx context.Context, checks []string, age time.Duration) ([]string, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	if age == 0 {
		age = defaultDoctorAge
	}
	var done []string
	var effects *orchestration.Effects
	err = db.InTx(ctx, c.pool, "repair", func(ctx context.Context, tx pgx.Tx) (err error) {
		done, effects, err = engine.Repair(ctx, tx, checks, age)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.after(ctx, engine, effects)
	return done, nil
}
