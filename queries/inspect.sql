-- name: TaskGet :one
SELECT t.id, p.namespace, p.name, p.version, t.state, t.priority, t.context, t.correlation_id, t.parent_correlation_id, t.tags,
       t.initiator, t.source_system, t.reason, t.idempotency_key, t.failure, t.created_at, t.run_at, t.started_at, t.finished_at,
       coalesce((SELECT s.problem FROM tasker.task_status s WHERE s.id = t.id), '')::text AS problem
  FROM tasker.tasks t
  JOIN tasker.templates p ON p.id = t.template_id
 WHERE t.id = @id;

-- name: TaskSteps :many
SELECT s.id, s.name, s.state, s.position, s.handler, s.attempts, s.max_attempts, s.losses, s.claim_no, s.parents_left, s.worker_id,
       s.river_job_id, s.started_at, s.finished_at, s.retry_at, s.result, s.failure,
       (SELECT coalesce(array_agg(x.name ORDER BY x.position), '{}') FROM tasker.step_edges e JOIN tasker.steps x ON x.id = e.parent_id
         WHERE e.child_id = s.id)::text[] AS dependencies
  FROM tasker.steps s
 WHERE s.task_id = @task_id
 ORDER BY s.position;

-- name: TaskState :one
SELECT state FROM tasker.tasks WHERE id = @id;

-- name: TaskStates :many
SELECT id, state FROM tasker.tasks WHERE id = ANY (@ids::uuid[]);

-- name: StepResult :one
SELECT state, result FROM tasker.steps WHERE task_id = @task_id AND name = @name;

-- TaskList lists the newest first; an empty filter matches everything.
-- name: TaskList :many
SELECT s.id, s.namespace::text AS namespace, s.name::text AS name, s.version::text AS version, s.state::text AS state, s.steps::text AS steps,
       coalesce(s.problem, '')::text AS problem, s.tags::text[] AS tags, s.initiator::text AS initiator,
       s.correlation_id, s.created_at::timestamptz AS created_at, s.finished_at
  FROM tasker.task_status s
 WHERE (@states::text[] = '{}' OR s.state = ANY (@states::text[]))
   AND (@namespace::text = '' OR s.namespace = @namespace)
   AND (@name::text = '' OR s.name = @name)
   AND (@tag::text = '' OR s.tags @> ARRAY[@tag::text])
   AND (@correlation_id::uuid = '00000000-0000-0000-0000-000000000000' OR s.correlation_id = @correlation_id)
   AND s.id < @before::uuid
 ORDER BY s.id DESC
 LIMIT @max;

-- TaskFindBySuffix finds tasks by the end of their id, newest first, for people who type.
-- name: TaskFindBySuffix :many
SELECT id FROM tasker.tasks WHERE right(id::text, length(@suffix::text)) = @suffix ORDER BY id DESC LIMIT 2;

-- name: TaskNewest :one
SELECT id FROM tasker.tasks ORDER BY id DESC LIMIT 1;

-- TaskHistory is everything that happened to a task, in order.
-- name: TaskHistory :many
SELECT at::timestamptz AS at, step::text AS step, from_state::text AS from_state, to_state::text AS to_state, note::text AS note
  FROM (SELECT x.at, '' AS step, coalesce(x.from_state, '') AS from_state, x.to_state, '' AS note, x.seq, 0 AS kind
          FROM tasker.task_transitions x WHERE x.task_id = @task_id::uuid
         UNION ALL
        SELECT x.at, s.name, coalesce(x.from_state, ''), x.to_state, 'claim ' || x.claim_no, x.seq, 1
          FROM tasker.step_transitions x JOIN tasker.steps s ON s.id = x.step_id WHERE s.task_id = @task_id::uuid
         UNION ALL
        SELECT o.at, coalesce(o.step_name, ''), o.from_state, o.to_state, o.action || ' by ' || o.actor || ': ' || o.reason, 0, 2
          FROM tasker.operator_actions o WHERE o.task_id = @task_id::uuid) history
 ORDER BY at, kind DESC, step, seq;

-- name: TaskAttempts :many
SELECT s.name, a.claim_no, a.attempt, a.outcome, a.worker_id, a.started_at, a.finished_at, a.failure
  FROM tasker.step_attempts a
  JOIN tasker.steps s ON s.id = a.step_id
 WHERE s.task_id = @task_id
 ORDER BY a.finished_at, s.position, a.claim_no;
