-- What the gauges show. Each process asks this four times a minute; each part reads an index of what is open, or live jobs, and
-- no more of them than tell that there are very many.

-- QueueDepths tells, for each queue, how many jobs could be fetched and since when the oldest of them could.
-- name: QueueDepths :many
SELECT j.queue, count(*)::bigint AS depth,
       extract(epoch FROM now() - min(greatest(j.scheduled_at, j.created_at)))::float8 AS oldest_seconds
  FROM (SELECT r.queue, r.scheduled_at, r.created_at FROM /* TEMPLATE: schema */river_job r WHERE r.state = 'available' LIMIT @max) j
 GROUP BY j.queue;

-- name: TaskCounts :many
SELECT p.namespace, t.state, sum(t.n)::bigint AS n
  FROM (SELECT o.template_id, o.state, count(*) AS n FROM (SELECT * FROM tasker.tasks a WHERE a.finished_at IS NULL LIMIT @max) o
         GROUP BY o.template_id, o.state) t
  JOIN tasker.templates p ON p.id = t.template_id
 GROUP BY p.namespace, t.state;

-- name: StepReadyCounts :many
SELECT s.queue AS namespace, count(*)::bigint AS n
  FROM (SELECT d.queue FROM tasker.steps d WHERE d.dispatched_at IS NOT NULL AND d.state = 'enqueued' LIMIT @max) s
 GROUP BY s.queue;

-- TxStatementLimit bounds the statements of the caller's transaction.
-- name: TxStatementLimit :exec
SELECT set_config('statement_timeout', @milliseconds::text, true);
