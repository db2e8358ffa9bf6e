// Package pgxtrace measures a pgx pool: its statements by name, its transactions, its connections and the wait for them.
//
//	tracer, err := pgxtrace.Watch(meterProvider, "app")
//	…
//	pgxtrace.Attach(config, tracer)
//	pool, err := pgxpool.NewWithConfig(ctx, config)
//	…
//	stop, err := tracer.Observe(pool)
//
// It needs nothing else of Tasker and works with any pool. What it records is in [telemetry.Catalogue], in the group
// "database".
//
// A statement that begins with sqlc's comment "-- name: X" is called X, any other by its first word, of a closed list; what
// users write into SQL can't add labels without limit. No text is parsed to find transactions: after each statement, pgx
// knows from the server whether one is open.
//
// What goes through [pgconn.PgConn] directly is not seen, nor a COPY that fails before it begins. A batch can't be seen between
// its statements either, but for the answers to BEGIN and COMMIT.
//
// What a tracer has to remember lies on the connection, which does one thing at a time: a statement costs two clock readings,
// two measurements and no allocation, asking the pool for a connection one.
package pgxtrace
