-- StepHeartbeat renews the leases of one process in one statement. A step missing from the answer is lost. One whose row
-- another transaction holds is not waited for, or all the others would wait with it: it is still held, and not renewed.
-- name: StepHeartbeat :many
WITH held AS (
    SELECT s.id, s.claim_no
      FROM (SELECT unnest(@step_ids::uuid[]) AS step_id, unnest(@claim_nos::integer[]) AS claim_no) c
      JOIN tasker.steps s ON s.id = c.step_id
     WHERE s.claim_no = c.claim_no AND s.state = 'in_progress'
), free AS (
    SELECT s.id
      FROM held
      JOIN tasker.steps s ON s.id = held.id AND s.claim_no = held.claim_no
     WHERE s.state = 'in_progress'
     ORDER BY s.id
       FOR NO KEY UPDATE OF s SKIP LOCKED
), renewed AS (
    UPDATE tasker.steps s
       SET lease_expires_at = now() + make_interval(secs => @lease_seconds::float8)
      FROM free
     WHERE s.id = free.id
    RETURNING s.id
)
SELECT held.id, (renewed.id IS NOT NULL)::boolean AS renewed
  FROM held
  LEFT JOIN renewed ON renewed.id = held.id;

-- name: ProcessHeartbeat :exec
INSERT INTO tasker.processes (id, queues, handlers) VALUES (@id, @queues::text[], @handlers::text[])
    ON CONFLICT (id) DO UPDATE SET seen_at = now();

-- name: ProcessDelete :exec
DELETE FROM tasker.processes WHERE id = @id OR seen_at < now() - interval '1 hour';

-- HandlerServed tells whether some other live process works the queue and has the handler, and how long its job has been there.
-- name: HandlerServed :one
SELECT (count(*) > 0)::boolean AS served,
       coalesce((SELECT extract(epoch FROM now() - j.created_at) FROM /* TEMPLATE: schema */river_job j WHERE j.id = @job_id::bigint), 0)::float8 AS age_seconds
  FROM tasker.processes p, unnest(p.handlers) AS h(handler)
 WHERE p.seen_at > now() - make_interval(secs => @alive_seconds::float8) AND p.id <> @self::text
   AND @queue::text = ANY (p.queues) AND h.handler = @handler::text;

-- StepExpired finds leases that ended, for the reaper.
-- name: StepExpired :many
SELECT id, claim_no
  FROM tasker.steps
 WHERE lease_expires_at < now()
 ORDER BY lease_expires_at
 LIMIT @max
   FOR NO KEY UPDATE SKIP LOCKED;

-- StepGiveBackMany ends executions without a result: losses, which count against max_losses, and polite hand-backs, which
-- do not. The step gets a new claim number and a new job, which keeps its turn: it is as old as the execution that was lost.
-- A poison step becomes a failed result instead.
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
    RETURNING s.id, s.task_id, s.state, s.claim_no, s.losses, s.transition_no, s.river_job_id, s.handler, s.queue, s.priority, l.started_at
), attempted AS (
    INSERT INTO tasker.step_attempts (step_id, claim_no, attempt, outcome, worker_id, river_job_id, started_at)
    SELECT l.id, l.claim_no, l.attempts, CASE WHEN @lost::boolean THEN 'lost' ELSE 'released' END, l.worker_id, l.river_job_id, l.started_at
      FROM locked l
), logged AS (
    INSERT INTO tasker.step_transitions (step_id, seq, claim_no, from_state, to_state)
    SELECT s.id, s.transition_no, s.claim_no, 'in_progress', s.state FROM step s
), jobs AS (
    INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags, scheduled_at)
    SELECT s.river_job_id, 'tasker_execute', jsonb_build_object('step_id', s.id, 'claim_no', s.claim_no, 'handler', s.handler, 'losses', s.losses), s.queue,
           tasker.river_priority(s.priority), 1, ARRAY[s.task_id::text], s.started_at
      FROM step s WHERE s.state = 'enqueued'
     UNION ALL
    SELECT s.river_job_id, 'tasker_result', jsonb_build_object('task_id', s.task_id, 'step_id', s.id, 'claim_no', s.claim_no), 'orchestration',
           tasker.river_priority(s.priority), 25, ARRAY[s.task_id::text], s.started_at
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

-- TxIdleLimit ends the caller's transaction, and with it the locks it holds, if its process vanishes before the commit.
-- name: TxIdleLimit :exec
SELECT set_config('idle_in_transaction_session_timeout', @milliseconds::text, true);

-- StepDue finds retries whose time has come, of tasks that nobody holds. It is run by itself: its locks last no longer.
-- name: StepDue :many
SELECT s.id, s.task_id
  FROM tasker.steps s
  JOIN tasker.tasks t ON t.id = s.task_id
 WHERE s.retry_at <= now()
 ORDER BY s.retry_at
 LIMIT @max
   FOR NO KEY UPDATE OF t SKIP LOCKED;

-- NextDue tells how long the promoter and the reaper may sleep, by the database's clock, and whether there is something to do
-- already: a delayed task whose time has come, or a lease that has ended.
-- name: NextDue :one
SELECT (extract(epoch FROM coalesce(least(
           (SELECT min(s.retry_at) FROM tasker.steps s WHERE s.retry_at IS NOT NULL),
           (SELECT min(t.run_at) FROM tasker.tasks t WHERE t.state = 'pending' AND t.run_at > now())), now() + interval '1 hour')
       - clock_timestamp()))::float8 AS seconds,
       EXISTS (SELECT 1 FROM tasker.tasks t WHERE t.state = 'pending' AND t.run_at <= now())::boolean AS starts,
       EXISTS (SELECT 1 FROM tasker.steps s WHERE s.lease_expires_at < now())::boolean AS expired;

-- NotifyMany wakes other processes, after the commit that gave them work.
-- name: NotifyMany :exec
SELECT pg_notify(unnest(@channels::text[]), unnest(@payloads::text[]));
