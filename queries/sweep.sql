-- The sweep repairs what leases cannot see: jobs that were fetched and forgotten, deleted, cancelled or discarded behind our
-- back. It looks at carriers older than a grace, in bounded slices.

-- StepUncarried lists dispatched steps whose job is gone, finished, or was fetched long ago and never claimed.
-- name: StepUncarried :many
SELECT s.id, s.claim_no, s.state, s.dispatched_at::timestamptz AS dispatched_at
  FROM (SELECT * FROM tasker.steps d
         WHERE d.dispatched_at < now() - make_interval(secs => @grace_seconds::float8)
           AND (d.dispatched_at, d.id) > (@after_time::timestamptz, @after_id::uuid)
         ORDER BY d.dispatched_at, d.id
         LIMIT @max) s
  LEFT JOIN /* TEMPLATE: schema */river_job j ON j.id = s.river_job_id
 WHERE j.id IS NULL
    OR j.state IN ('cancelled', 'completed', 'discarded')
    OR (j.state = 'running' AND s.state = 'enqueued' AND j.attempted_at < now() - make_interval(secs => @grace_seconds::float8))
 ORDER BY s.dispatched_at, s.id;

-- StepSlice tells where the slice that StepUncarried looked at ended.
-- name: StepSlice :one
SELECT count(*)::integer AS seen, coalesce(max(d.dispatched_at), 'epoch')::timestamptz AS last_time,
       coalesce((array_agg(d.id ORDER BY d.dispatched_at DESC, d.id DESC))[1], '00000000-0000-0000-0000-000000000000')::uuid AS last_id
  FROM (SELECT x.dispatched_at, x.id FROM tasker.steps x
         WHERE x.dispatched_at < now() - make_interval(secs => @grace_seconds::float8)
           AND (x.dispatched_at, x.id) > (@after_time::timestamptz, @after_id::uuid)
         ORDER BY x.dispatched_at, x.id
         LIMIT @max) d;

-- StepRecarryMany gives uncarried steps a new job, fenced by the claim number it was seen with.
-- name: StepRecarryMany :many
WITH seen AS (
    SELECT unnest(@step_id::uuid[]) AS step_id, unnest(@claim_no::integer[]) AS claim_no
), locked AS (
    SELECT s.id, s.river_job_id
      FROM seen c
      JOIN tasker.steps s ON s.id = c.step_id
     WHERE s.claim_no = c.claim_no AND s.dispatched_at IS NOT NULL
     ORDER BY s.id
       FOR NO KEY UPDATE OF s SKIP LOCKED
), step AS (
    UPDATE tasker.steps s
       SET claim_no = s.claim_no + (s.state = 'enqueued')::integer,
           river_job_id = nextval('/* TEMPLATE: schema */river_job_id_seq'),
           dispatched_at = now(),
           updated_at = now()
      FROM locked l
     WHERE s.id = l.id
    RETURNING s.id, s.task_id, s.state, s.claim_no, s.losses, s.river_job_id, s.handler, s.queue, s.priority
), jobs AS (
    INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags)
    SELECT s.river_job_id, 'tasker_execute', jsonb_build_object('step_id', s.id, 'claim_no', s.claim_no, 'handler', s.handler, 'losses', s.losses), s.queue,
           tasker.river_priority(s.priority), 1, ARRAY[s.task_id::text]
      FROM step s WHERE s.state = 'enqueued'
     UNION ALL
    SELECT s.river_job_id, 'tasker_result', jsonb_build_object('task_id', s.task_id, 'step_id', s.id, 'claim_no', s.claim_no), 'orchestration',
           tasker.river_priority(s.priority), 25, ARRAY[s.task_id::text]
      FROM step s WHERE s.state <> 'enqueued'
), settled AS (
    UPDATE /* TEMPLATE: schema */river_job j
       SET state = 'discarded', finalized_at = now(),
           errors = array_append(j.errors, jsonb_build_object('at', now(), 'attempt', j.attempt, 'trace', '',
               'error', 'fetched but never claimed: replaced by a new job'))
      FROM locked l
     WHERE j.id = l.river_job_id AND j.state = 'running'
)
SELECT s.id, s.queue, s.state FROM step s;

-- TaskUncarriedMany looks at the pending tasks that wait longest, and gives those whose tasker_enqueue job is gone or
-- finished a new one.
-- name: TaskUncarriedMany :execrows
WITH lost AS (
    SELECT t.id
      FROM (SELECT p.id FROM tasker.tasks p
             WHERE p.state = 'pending' AND coalesce(p.run_at, p.created_at) < now() - make_interval(secs => @grace_seconds::float8)
             ORDER BY coalesce(p.run_at, p.created_at)
             LIMIT @max) oldest
      JOIN tasker.tasks t ON t.id = oldest.id
      LEFT JOIN /* TEMPLATE: schema */river_job j ON j.id = t.enqueue_job_id
     WHERE t.state = 'pending' AND (j.id IS NULL OR j.state IN ('cancelled', 'completed', 'discarded'))
     ORDER BY t.id
       FOR NO KEY UPDATE OF t SKIP LOCKED
), task AS (
    UPDATE tasker.tasks t
       SET enqueue_job_id = nextval('/* TEMPLATE: schema */river_job_id_seq'), updated_at = now()
      FROM lost
     WHERE t.id = lost.id
    RETURNING t.id, t.enqueue_job_id, t.priority
)
INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags)
SELECT t.enqueue_job_id, 'tasker_enqueue', jsonb_build_object('task_id', t.id), 'orchestration', tasker.river_priority(t.priority), 25,
       ARRAY[t.id::text]
  FROM task t;

-- JobRescueMany makes orchestration jobs that some process fetched and never finished available again. They are idempotent,
-- so a slow one that still runs does no harm.
-- name: JobRescueMany :execrows
UPDATE /* TEMPLATE: schema */river_job j
   SET state = 'available', scheduled_at = now()
 WHERE j.id IN (SELECT r.id FROM /* TEMPLATE: schema */river_job r
                 WHERE r.state = 'running' AND r.queue = 'orchestration' AND r.kind IN ('tasker_enqueue', 'tasker_result')
                   AND r.attempted_at < now() - make_interval(secs => @grace_seconds::float8)
                 ORDER BY r.id LIMIT @max
                   FOR UPDATE SKIP LOCKED);

-- JobSettleStale closes running tasker_execute jobs that no step wants any more: their process died after a newer dispatch.
-- name: JobSettleStale :execrows
UPDATE /* TEMPLATE: schema */river_job j
   SET state = 'discarded', finalized_at = now()
 WHERE j.id IN (SELECT r.id
                  FROM /* TEMPLATE: schema */river_job r
                  LEFT JOIN tasker.steps s ON s.id = (r.args->>'step_id')::uuid
                 WHERE r.state = 'running' AND r.kind = 'tasker_execute'
                   AND r.attempted_at < now() - make_interval(secs => @grace_seconds::float8)
                   AND (s.id IS NULL OR s.river_job_id IS DISTINCT FROM r.id OR s.state NOT IN ('enqueued', 'in_progress'))
                 ORDER BY r.id LIMIT @max
                   FOR UPDATE OF r SKIP LOCKED);

-- JobCancelMany withdraws the jobs of cancelled steps that nobody fetched.
-- name: JobCancelMany :exec
UPDATE /* TEMPLATE: schema */river_job j
   SET state = 'cancelled', finalized_at = now()
 WHERE j.id = ANY (@job_ids::bigint[]) AND j.state IN ('available', 'scheduled', 'retryable', 'pending');
