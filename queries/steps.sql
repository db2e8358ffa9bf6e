-- StepInsertMany expands tasks: steps, edges, first transitions, and the jobs of those that may start at once. Root steps
-- are inserted as enqueued: no other transaction could have seen them pending.
-- name: StepInsertMany :exec
WITH step AS (
    INSERT INTO tasker.steps (id, task_id, name, type, state, position, handler, queue, priority, sink, parents_left, max_attempts,
                              claim_no, transition_no, river_job_id, dispatched_at)
    SELECT n.id, n.task_id, n.name, n.type, CASE WHEN n.root THEN 'enqueued' ELSE 'pending' END, n.position, n.handler, n.queue,
           n.priority, n.sink, n.parents_left, n.max_attempts, n.root::integer, 1 + n.root::integer,
           CASE WHEN n.root THEN nextval('/* TEMPLATE: schema */river_job_id_seq') END, CASE WHEN n.root THEN now() END
      FROM (SELECT unnest(@id::uuid[]) AS id, unnest(@task_id::uuid[]) AS task_id, unnest(@name::text[]) AS name,
                   unnest(@type::text[]) AS type, unnest(@position::integer[]) AS position, unnest(@handler::text[]) AS handler,
                   unnest(@queue::text[]) AS queue, unnest(@priority::smallint[]) AS priority, unnest(@sink::boolean[]) AS sink,
                   unnest(@parents_left::integer[]) AS parents_left, unnest(@max_attempts::integer[]) AS max_attempts,
                   unnest(@root::boolean[]) AS root) n
    RETURNING id, task_id, state, handler, queue, priority, claim_no, river_job_id
), edge AS (
    INSERT INTO tasker.step_edges (parent_id, child_id)
    SELECT unnest(@edge_parent::uuid[]), unnest(@edge_child::uuid[])
), logged AS (
    INSERT INTO tasker.step_transitions (step_id, seq, claim_no, from_state, to_state)
    SELECT s.id, 1, 0, NULL, 'pending' FROM step s
     UNION ALL
    SELECT s.id, 2, 1, 'pending', 'enqueued' FROM step s WHERE s.state = 'enqueued'
)
INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags)
SELECT s.river_job_id, 'tasker_execute', jsonb_build_object('step_id', s.id, 'claim_no', s.claim_no, 'handler', s.handler), s.queue,
       tasker.river_priority(s.priority), 1, ARRAY[s.task_id::text]
  FROM step s
 WHERE s.state = 'enqueued';

-- StepLockMany takes the steps whose results are decided about. A row that moved on is returned as it is now; the caller
-- compares state and claim number, which cannot change any more.
-- name: StepLockMany :many
SELECT id, task_id, name, state, claim_no, attempts, max_attempts, losses, parents_left, sink, river_job_id,
       (CASE WHEN state = 'enqueued_as_error_for_orchestration' THEN failure END)::jsonb AS failure
  FROM tasker.steps
 WHERE id = ANY (@ids::uuid[])
 ORDER BY id
   FOR NO KEY UPDATE;

-- StepLockTask takes every step of a task, for operator events.
-- name: StepLockTask :many
SELECT id, task_id, name, state, claim_no, attempts, max_attempts, losses, parents_left, sink, river_job_id
  FROM tasker.steps
 WHERE task_id = @task_id
 ORDER BY id
   FOR NO KEY UPDATE;

-- StepChildren needs no lock: a pending step changes only under its task's row, which the caller holds.
-- name: StepChildren :many
SELECT e.parent_id, c.id, c.task_id, c.name, c.state, c.claim_no, c.attempts, c.max_attempts, c.losses, c.parents_left, c.sink
  FROM tasker.step_edges e
  JOIN tasker.steps c ON c.id = e.child_id
 WHERE e.parent_id = ANY (@parent_ids::uuid[]);

-- StepActiveCounts counts what still moves in tasks that have failures or retries; others never need it.
-- name: StepActiveCounts :many
SELECT task_id, count(*)::integer AS active
  FROM tasker.steps
 WHERE task_id = ANY (@task_ids::uuid[])
   AND state IN ('enqueued', 'in_progress', 'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
 GROUP BY task_id;

-- StepApplyMany writes every step change of a batch of plans: closes, decrements, retries, dispatches, cancellations. A
-- dispatch raises the claim number and inserts its job here; a fresh outcome (one that was not stored before) also gets its
-- attempt row, and its jobs are settled. A dispatch with a token is continued by the worker that made it possible: the step is
-- claimed here and now, and its job is inserted running.
-- name: StepApplyMany :many
WITH change AS (
    SELECT unnest(@id::uuid[]) AS id, unnest(@from_state::text[]) AS from_state, unnest(@to_state::text[]) AS to_state,
           unnest(@parents_done::integer[]) AS parents_done, unnest(@retry_at::timestamptz[]) AS retry_at,
           unnest(@reset::boolean[]) AS reset, unnest(@fresh::boolean[]) AS fresh, unnest(@result::text[]) AS result,
           unnest(@failure::text[]) AS failure, nullif(unnest(@token::uuid[]), '00000000-0000-0000-0000-000000000000') AS token
), step AS (
    UPDATE tasker.steps s
       SET state = CASE WHEN c.token IS NULL THEN c.to_state ELSE 'in_progress' END,
           parents_left = s.parents_left - c.parents_done,
           claim_no = s.claim_no + (c.to_state = 'enqueued')::integer,
           attempts = CASE WHEN c.reset THEN 0 ELSE s.attempts END + (c.token IS NOT NULL)::integer,
           losses = CASE WHEN c.reset THEN 0 ELSE s.losses END,
           transition_no = s.transition_no + (c.to_state <> c.from_state)::integer + (c.token IS NOT NULL)::integer,
           river_job_id = CASE WHEN c.to_state = 'enqueued' THEN nextval('/* TEMPLATE: schema */river_job_id_seq') ELSE s.river_job_id END,
           dispatched_at = CASE WHEN c.to_state = 'enqueued' AND c.token IS NULL THEN now() END,
           worker_id = CASE WHEN c.token IS NULL THEN s.worker_id ELSE @worker_id::text END,
           claim_token = coalesce(c.token, s.claim_token),
           started_at = CASE WHEN c.token IS NULL THEN s.started_at ELSE now() END,
           lease_expires_at = CASE WHEN c.token IS NOT NULL THEN now() + make_interval(secs => @lease_seconds::float8) END,
           retry_at = CASE WHEN c.to_state = 'waiting_for_retry' THEN c.retry_at END,
           finished_at = CASE WHEN c.to_state IN ('complete', 'error', 'cancelled', 'resolved_manually') THEN now() END,
           result = CASE WHEN c.result <> '' THEN c.result::jsonb ELSE s.result END,
           failure = CASE WHEN c.failure <> '' THEN c.failure::jsonb ELSE s.failure END,
           updated_at = now()
      FROM change c
     WHERE s.id = c.id AND s.state = c.from_state
    RETURNING s.id, s.task_id, c.from_state, c.to_state, s.claim_no, s.attempts, s.losses, s.transition_no, s.river_job_id, s.handler, s.queue,
              s.priority, s.worker_id, s.started_at, c.fresh, c.failure, c.token IS NOT NULL AS continued
), logged AS (
    INSERT INTO tasker.step_transitions (step_id, seq, claim_no, from_state, to_state)
    SELECT s.id, s.transition_no - s.continued::integer, s.claim_no, s.from_state, s.to_state FROM step s WHERE s.to_state <> s.from_state
     UNION ALL
    SELECT s.id, s.transition_no, s.claim_no, 'enqueued', 'in_progress' FROM step s WHERE s.continued
), attempted AS (
    INSERT INTO tasker.step_attempts (step_id, claim_no, attempt, outcome, worker_id, river_job_id, started_at, failure)
    SELECT s.id, s.claim_no, s.attempts, CASE WHEN s.to_state = 'complete' THEN 'complete' ELSE 'error' END, s.worker_id,
           s.river_job_id, s.started_at, nullif(s.failure, '')::jsonb
      FROM step s
     WHERE s.fresh
), jobs AS (
    INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags, state, attempt, attempted_at, attempted_by)
    SELECT s.river_job_id, 'tasker_execute', jsonb_build_object('step_id', s.id, 'claim_no', s.claim_no, 'handler', s.handler, 'losses', s.losses), s.queue,
           tasker.river_priority(s.priority), 1, ARRAY[s.task_id::text],
           (CASE WHEN s.continued THEN 'running' ELSE 'available' END)::/* TEMPLATE: schema */river_job_state, s.continued::integer,
           CASE WHEN s.continued THEN now() END, CASE WHEN s.continued THEN ARRAY[s.worker_id] END
      FROM step s
     WHERE s.to_state = 'enqueued'
), result_jobs AS (
    INSERT INTO /* TEMPLATE: schema */river_job (kind, args, queue, priority, max_attempts, state, attempt, attempted_at, finalized_at, attempted_by, tags)
    SELECT 'tasker_result', jsonb_build_object('task_id', s.task_id, 'step_id', s.id, 'claim_no', s.claim_no), 'orchestration',
           tasker.river_priority(s.priority), 25, 'completed', 1, now(), now(), ARRAY[s.worker_id], ARRAY[s.task_id::text]
      FROM step s
     WHERE s.fresh
), settled AS (
    UPDATE /* TEMPLATE: schema */river_job j
       SET state = d.state::/* TEMPLATE: schema */river_job_state, finalized_at = now(),
           errors = CASE WHEN d.error <> '' THEN array_append(j.errors, d.error::jsonb) ELSE j.errors END
      FROM (SELECT unnest(@settle_id::bigint[]) AS id, unnest(@settle_state::text[]) AS state, unnest(@settle_error::text[]) AS error) d
     WHERE j.id = d.id AND j.state = 'running'
)
SELECT s.id, s.to_state::text AS to_state, s.queue, s.claim_no, s.attempts, s.river_job_id, s.continued::boolean AS continued FROM step s;

-- StepClaimMany is the fence: it takes the steps whose dispatch is still the newest, and hands out what their handlers need.
-- A job that gets no row is a stale carrier. A claim whose commit was in doubt finds its own token.
-- name: StepClaimMany :many
WITH claim AS (
    SELECT unnest(@step_id::uuid[]) AS step_id, unnest(@claim_no::integer[]) AS claim_no, unnest(@token::uuid[]) AS token
), locked AS (
    SELECT s.id, s.state, c.token
      FROM claim c
      JOIN tasker.steps s ON s.id = c.step_id
     WHERE s.claim_no = c.claim_no AND (s.state = 'enqueued' OR (s.state = 'in_progress' AND s.claim_token = c.token))
     ORDER BY s.id
       FOR NO KEY UPDATE OF s
), claimed AS (
    UPDATE tasker.steps s
       SET state = 'in_progress',
           attempts = s.attempts + (l.state = 'enqueued')::integer,
           transition_no = s.transition_no + (l.state = 'enqueued')::integer,
           worker_id = @worker_id::text,
           claim_token = l.token,
           lease_expires_at = now() + make_interval(secs => @lease_seconds::float8),
           dispatched_at = NULL,
           started_at = now(),
           updated_at = now()
      FROM locked l
     WHERE s.id = l.id
    RETURNING s.id, s.task_id, s.name, s.claim_no, s.attempts, s.max_attempts, s.losses, s.transition_no, l.state AS was, s.failure
), logged AS (
    INSERT INTO tasker.step_transitions (step_id, seq, claim_no, from_state, to_state)
    SELECT c.id, c.transition_no, c.claim_no, 'enqueued', 'in_progress' FROM claimed c WHERE c.was = 'enqueued'
)
SELECT c.id, c.task_id, c.name, c.claim_no, c.attempts, c.max_attempts, c.losses, t.template_id, t.correlation_id, t.context,
       t.traceparent, t.tracestate, t.trace_root, t.correlation_label,
       extract(epoch FROM now() - t.created_at)::float8 AS age_seconds,
       (CASE WHEN c.attempts > 1 THEN c.failure END)::jsonb AS last_failure
  FROM claimed c
  JOIN tasker.tasks t ON t.id = c.task_id;

-- StepResults reads what handlers asked for: results of finished steps of their task, by name.
-- name: StepResults :many
SELECT w.task_id::uuid AS task_id, s.name, s.result, s.id, s.claim_no
  FROM (SELECT unnest(@task_ids::uuid[]) AS task_id, unnest(@names::text[]) AS name) w
  JOIN tasker.steps s ON s.task_id = w.task_id AND s.name = w.name
 WHERE s.state IN ('complete', 'resolved_manually');

-- StepFinishMany stores results where no orchestrator lives in this process: fenced, with the attempt row, the tasker_result
-- job that brings it there, and the step's own job settled.
-- name: StepFinishMany :many
WITH outcome AS (
    SELECT unnest(@step_id::uuid[]) AS step_id, unnest(@claim_no::integer[]) AS claim_no, unnest(@result::text[]) AS result,
           unnest(@failure::text[]) AS failure, unnest(@job_id::bigint[]) AS job_id, unnest(@job_error::text[]) AS job_error
), locked AS (
    SELECT s.id, s.river_job_id AS execute_job_id, o.result, o.failure, o.job_id, o.job_error
      FROM outcome o
      JOIN tasker.steps s ON s.id = o.step_id
     WHERE s.claim_no = o.claim_no AND s.state = 'in_progress'
     ORDER BY s.id
       FOR NO KEY UPDATE OF s
), finished AS (
    UPDATE tasker.steps s
       SET state = CASE WHEN l.failure = '' THEN 'enqueued_for_orchestration' ELSE 'enqueued_as_error_for_orchestration' END,
           transition_no = s.transition_no + 1,
           result = CASE WHEN l.failure = '' THEN l.result::jsonb END,
           failure = CASE WHEN l.failure <> '' THEN l.failure::jsonb ELSE s.failure END,
           lease_expires_at = NULL,
           river_job_id = nextval('/* TEMPLATE: schema */river_job_id_seq'),
           dispatched_at = now(),
           updated_at = now()
      FROM locked l
     WHERE s.id = l.id
    RETURNING s.id, s.task_id, s.state, s.claim_no, s.attempts, s.transition_no, s.river_job_id, s.priority, s.worker_id, s.started_at,
              l.execute_job_id, l.failure, l.job_id, l.job_error
), attempted AS (
    INSERT INTO tasker.step_attempts (step_id, claim_no, attempt, outcome, worker_id, river_job_id, started_at, failure)
    SELECT f.id, f.claim_no, f.attempts, CASE WHEN f.failure = '' THEN 'complete' ELSE 'error' END, f.worker_id, f.execute_job_id,
           f.started_at, nullif(f.failure, '')::jsonb
      FROM finished f
), logged AS (
    INSERT INTO tasker.step_transitions (step_id, seq, claim_no, from_state, to_state)
    SELECT f.id, f.transition_no, f.claim_no, 'in_progress', f.state FROM finished f
), result_jobs AS (
    INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags)
    SELECT f.river_job_id, 'tasker_result', jsonb_build_object('task_id', f.task_id, 'step_id', f.id, 'claim_no', f.claim_no), 'orchestration',
           tasker.river_priority(f.priority), 25, ARRAY[f.task_id::text]
      FROM finished f
), settled AS (
    UPDATE /* TEMPLATE: schema */river_job j
       SET state = (CASE WHEN f.failure = '' THEN 'completed' ELSE 'discarded' END)::/* TEMPLATE: schema */river_job_state,
           finalized_at = now(),
           errors = CASE WHEN f.job_error <> '' THEN array_append(j.errors, f.job_error::jsonb) ELSE j.errors END
      FROM finished f
     WHERE j.id = f.job_id AND j.state = 'running'
)
SELECT f.id, f.claim_no FROM finished f;

-- StepAttempts tells a replay from a stale result: the execution that already counted left its row.
-- name: StepAttempts :many
SELECT a.step_id, a.claim_no
  FROM (SELECT unnest(@step_ids::uuid[]) AS step_id, unnest(@claim_nos::integer[]) AS claim_no) w
  JOIN tasker.step_attempts a ON a.step_id = w.step_id AND a.claim_no = w.claim_no
 WHERE a.outcome IN ('complete', 'error');

-- StepContinued finds steps that a worker claimed for itself in a transaction whose commit was in doubt.
-- name: StepContinued :many
SELECT s.id, s.task_id, s.name, s.claim_no, s.claim_token::uuid AS claim_token, s.attempts, s.max_attempts, s.river_job_id
  FROM tasker.steps s
 WHERE s.task_id = ANY (@task_ids::uuid[]) AND s.claim_token = ANY (@tokens::uuid[]) AND s.state = 'in_progress';
