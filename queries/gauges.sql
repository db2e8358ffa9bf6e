-- What the gauges show. One process asks this four times a minute; each part reads an index of what is open, or live jobs.

-- QueueDepths tells, for each queue, how many jobs could be fetched and since when the oldest of them could.
-- name: QueueDepths :many
SELECT j.queue, count(*)::bigint AS depth, extract(epoch FROM now() - min(j.scheduled_at))::float8 AS oldest_seconds
  FROM /* TEMPLATE: schema */river_job j
 WHERE j.state = 'available'
 GROUP BY j.queue;

-- name: TaskCounts :many
SELECT p.namespace, t.state, sum(t.n)::bigint AS n
  FROM (SELECT o.template_id, o.state, count(*) AS n FROM tasker.tasks o WHERE o.finished_at IS NULL GROUP BY o.template_id, o.state) t
  JOIN tasker.templates p ON p.id = t.template_id
 GROUP BY p.namespace, t.state;

-- name: StepReadyCounts :many
SELECT s.queue AS namespace, count(*)::bigint AS n
  FROM tasker.steps s
 WHERE s.dispatched_at IS NOT NULL AND s.state = 'enqueued'
 GROUP BY s.queue;

-- TxStatementLimit bounds the statements of the caller's transaction.
-- name: TxStatementLimit :exec
SELECT set_config('statement_timeout', @milliseconds::text, true);
