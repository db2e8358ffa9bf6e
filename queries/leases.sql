-- StepHeartbeat renews the leases of one process in one statement. An id missing from the answer has lost its lease.
-- name: StepHeartbeat :many
WITH mine AS (
    SELECT s.id
      FROM (SELECT unnest(@step_ids::uuid[]) AS step_id, unnest(@claim_nos::integer[]) AS claim_no) c
      JOIN tasker.steps s ON s.id = c.step_id
     WHERE s.claim_no = c.claim_no AND s.state = 'in_progress'
     ORDER BY s.id
       FOR NO KEY UPDATE OF s
)
UPDATE tasker.steps s
   SET lease_expires_at = now() + make_interval(secs => @lease_seconds::float8)
  FROM mine
 WHERE s.id = mine.id
RETURNING s.id;

-- name: ProcessHeartbeat :exec
INSERT INTO tasker.processes (id, queues, handlers) VALUES (@id, @queues::text[], @handlers::text[])
    ON CONFLICT (id) DO UPDATE SET seen_at = now();

-- name: ProcessDelete :exec
DELETE FROM tasker.processes WHERE id = @id OR seen_at < now() - interval '1 hour';

-- HandlersServed tells which handlers some other live process has.
-- name: HandlersServed :many
SELECT DISTINCT h.handler::text AS handler
  FROM tasker.processes p, unnest(p.handlers) AS h(handler)
 WHERE p.seen_at > now() - make_interval(secs => @alive_seconds::float8) AND p.id <> @self::text AND h.handler = ANY (@handlers::text[]);

-- StepExpired finds leases that ended, for the reaper.
-- name: StepExpired :many
SELECT id, claim_no
  FROM tasker.steps
 WHERE lease_expires_at < now()
 ORDER BY lease_expires_at
 LIMIT @max
   FOR NO KEY UPDATE SKIP LOCKED;

-- StepGiveBackMany ends executions without a result: losses, which count against max_losses, and polite hand-backs, which
-- do not. The step gets a new claim number and a new job; a poison step becomes a failed result instead.
-- name: StepGiveBackMany :many
WITH back AS (
    SELECT unnest(@step_id::uuid[]) AS step_id, unnest(@claim_no::integer[]) AS claim_no
), locked AS (
    SELECT s.id, s.claim_no, s.attempts, s.worker_id, s.started_at, s.river_job_id,
           (@lost::boolean AND s.losses + 1 >= @max_losses::integer) AS poison
      FROM back b
      JOIN tasker.steps s ON s.id = b.step_id
     WHERE s.claim_no = b.claim_no AND s.state = 'in_progress'
     ORDER BY s.id
       FOR NO KEY UPDATE OF s
), step AS (
    UPDATE tasker.steps s
       SET state = CASE WHEN l.poison THEN 'enqueued_as_error_for_orchestration' ELSE 'enqueued' END,
           claim_no = s.claim_no + 1,
           attempts = greatest(s.attempts - 1, 0),
           losses = s.losses + (@lost::boolean)::integer,
           transition_no = s.transition_no + 1,
           river_job_id = nextval('/* TEMPLATE: schema */river_job_id_seq'),
           dispatched_at = now(),
           lease_expires_at = NULL,
           failure = CASE WHEN l.poison THEN jsonb_build_object('type', 'worker_lost', 'permanent', true,
               'message', format('the worker was lost %s times while it ran this step; it will not be tried again by itself', s.losses + 1))
               ELSE s.failure END,
           updated_at = now()
      FROM locked l
     WHERE s.id = l.id
    RETURNING s.id, s.task_id, s.state, s.claim_no, s.losses, s.transition_no, s.river_job_id, s.handler, s.queue, s.priority
), attempted AS (
    INSERT INTO tasker.step_attempts (step_id, claim_no, attempt, outcome, worker_id, river_job_id, started_at)
    SELECT l.id, l.claim_no, l.attempts, CASE WHEN @lost::boolean THEN 'lost' ELSE 'released' END, l.worker_id, l.river_job_id, l.started_at
      FROM locked l
), logged AS (
    INSERT INTO tasker.step_transitions (step_id, seq, claim_no, from_state, to_state)
    SELECT s.id, s.transition_no, s.claim_no, 'in_progress', s.state FROM step s
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
               'error', CASE WHEN @lost::boolean THEN 'lease expired: the worker was lost' ELSE 'handed back: the worker stopped' END))
      FROM locked l
     WHERE j.id = l.river_job_id AND j.state = 'running'
)
SELECT s.id, s.task_id, s.claim_no, s.state, s.queue FROM step s;

-- StepDue finds retries whose time has come.
-- name: StepDue :many
SELECT id, task_id FROM tasker.steps WHERE retry_at <= now() ORDER BY retry_at LIMIT @max;

-- NextDue tells how long the promoter and the reaper may sleep, by the database's clock, and whether there is something to do
-- already: a delayed task whose job River has not made available yet, or a lease that has ended.
-- name: NextDue :one
SELECT (extract(epoch FROM coalesce(least(
           (SELECT min(s.retry_at) FROM tasker.steps s WHERE s.retry_at IS NOT NULL),
           (SELECT min(t.run_at) FROM tasker.tasks t WHERE t.state = 'pending' AND t.run_at > now())), now() + interval '1 hour')
       - clock_timestamp()))::float8 AS seconds,
       EXISTS (SELECT 1 FROM tasker.tasks t JOIN /* TEMPLATE: schema */river_job j ON j.id = t.enqueue_job_id
                WHERE t.state = 'pending' AND t.run_at <= now() AND j.state = 'scheduled')::boolean AS starts,
       EXISTS (SELECT 1 FROM tasker.steps s WHERE s.lease_expires_at < now())::boolean AS expired;

-- NotifyMany wakes other processes, after the commit that gave them work.
-- name: NotifyMany :exec
SELECT pg_notify(unnest(@channels::text[]), unnest(@payloads::text[]));
