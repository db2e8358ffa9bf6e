-- name: TaskCreateMany :many
SELECT created.ordinal::integer AS ordinal, created.id::uuid AS id, created.created::boolean AS created
  FROM tasker.create_tasks(@requests::jsonb, @notify::boolean) AS created;

-- TaskLockMany takes the rows that an advance decides about, in the one lock order: tasks by id, then steps by id.
-- The context is read only where it is needed: to expand a task. Its life counts from when it was to start.
-- name: TaskLockMany :many
SELECT id, template_id, state, priority, sinks_left, steps_failed, steps_retrying, transition_no,
       (CASE WHEN state = 'pending' THEN context END)::jsonb AS context, now()::timestamptz AS locked_at,
       correlation_id, traceparent, tracestate, trace_root, correlation_label,
       extract(epoch FROM now() - created_at)::float8 AS age_seconds,
       extract(epoch FROM now() - greatest(run_at, created_at))::float8 AS life_seconds
  FROM tasker.tasks
 WHERE id = ANY (@ids::uuid[])
 ORDER BY id
   FOR NO KEY UPDATE;

-- TaskApplyMany writes the decided state of tasks. Counters are deltas; a state may pass through several others, of which
-- the transition log gets each.
-- name: TaskApplyMany :exec
WITH change AS (
    SELECT unnest(@id::uuid[]) AS id, unnest(@to_state::text[]) AS to_state, unnest(@sinks_left::integer[]) AS sinks_left,
           unnest(@steps_failed::integer[]) AS steps_failed, unnest(@steps_retrying::integer[]) AS steps_retrying,
           unnest(@transitions::integer[]) AS transitions, unnest(@failure::text[]) AS failure,
           unnest(@trace_root::text[]) AS trace_root, unnest(@tracestate::text[]) AS tracestate,
           unnest(@counted::boolean[]) AS counted, unnest(@admitted::boolean[]) AS admitted
), logged AS (
    INSERT INTO tasker.task_transitions (task_id, seq, from_state, to_state)
    SELECT unnest(@log_task_id::uuid[]), unnest(@log_seq::integer[]), unnest(@log_from::text[]), unnest(@log_to::text[])
)
UPDATE tasker.tasks t
   SET state = c.to_state,
       sinks_left = t.sinks_left + c.sinks_left,
       steps_failed = t.steps_failed + c.steps_failed,
       steps_retrying = t.steps_retrying + c.steps_retrying,
       transition_no = t.transition_no + c.transitions,
       failure = CASE WHEN c.failure <> '' THEN c.failure::jsonb WHEN c.to_state = 'error' THEN t.failure END,
       trace_root = CASE WHEN c.trace_root <> '' THEN c.trace_root ELSE t.trace_root END,
       tracestate = CASE WHEN c.tracestate <> '' THEN c.tracestate ELSE t.tracestate END,
       correlation_label = CASE WHEN c.counted THEN c.admitted ELSE t.correlation_label END,
       started_at = coalesce(t.started_at, now()),
       finished_at = CASE WHEN c.to_state IN ('complete', 'error', 'cancelled', 'resolved_manually')
                          THEN CASE WHEN t.state = c.to_state THEN t.finished_at ELSE now() END END,
       updated_at = now()
  FROM change c
 WHERE t.id = c.id;

-- TaskDueMany makes the jobs of tasks whose run_at has come available on time; River's scheduler would do it seconds later.
-- name: TaskDueMany :execrows
UPDATE /* TEMPLATE: schema */river_job j
   SET state = 'available', scheduled_at = least(j.scheduled_at, now())
 WHERE j.id IN (SELECT r.id
                  FROM (SELECT t.enqueue_job_id FROM tasker.tasks t WHERE t.state = 'pending' AND t.run_at <= now() ORDER BY t.run_at LIMIT @max) due
                  JOIN /* TEMPLATE: schema */river_job r ON r.id = due.enqueue_job_id
                 WHERE r.state = 'scheduled'
                 ORDER BY r.id
                   FOR UPDATE OF r SKIP LOCKED);

-- TaskRestart sends a task that ended before it had steps through its first enqueue again.
-- name: TaskRestart :exec
WITH task AS (
    UPDATE tasker.tasks t
       SET enqueue_job_id = nextval('/* TEMPLATE: schema */river_job_id_seq')
     WHERE t.id = ANY (@ids::uuid[])
    RETURNING t.id, t.enqueue_job_id, t.priority
)
INSERT INTO /* TEMPLATE: schema */river_job (id, kind, args, queue, priority, max_attempts, tags)
SELECT t.enqueue_job_id, 'tasker_enqueue', jsonb_build_object('task_id', t.id), 'orchestration',
       tasker.river_priority(t.priority), 25, ARRAY[t.id::text]
  FROM task t;

-- name: OperatorActionInsert :exec
INSERT INTO tasker.operator_actions (id, task_id, step_name, action, actor, reason, from_state, to_state)
VALUES (@id, @task_id, sqlc.narg('step_name'), @action, @actor, @reason, @from_state, @to_state);

-- name: OperatorActionExists :one
SELECT EXISTS (SELECT 1 FROM tasker.operator_actions WHERE id = @id)::boolean;
