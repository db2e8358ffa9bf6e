-- +goose Up

-- Whoever creates tasks waits behind this, so it does not wait for long: it is tried again when a transaction is in the way.
SET LOCAL lock_timeout = '3s';

-- What telemetry keeps with a task. traceparent, which was there before, is the caller's trace context and stays as it was
-- given, with its tracestate. trace_root is the context of the task's own first span, under which all others stand, whichever
-- process they run in; null until a process that traces has taken the task up. correlation_label is the decision whether the
-- task's correlation_id stands on metrics, taken once so that all processes agree; null means that nobody has counted the
-- request yet: the task was created by SQL, or by a client without telemetry.
ALTER TABLE tasker.tasks
    ADD COLUMN tracestate text,
    ADD COLUMN trace_root text,
    ADD COLUMN correlation_label boolean;

-- As before, with the three fields more. They are read from the requests, and are no attributes of tasker.task_request: calls
-- that are under way while this runs go on with the body that they began with, to which the type must not change.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tasker.create_tasks(requests jsonb, notify boolean DEFAULT true)
RETURNS TABLE (ordinal integer, id uuid, created boolean) LANGUAGE plpgsql
-- Every table is found by key. A plan made while the tables were empty must not scan them when they are large.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    batch tasker.task_request[];
    template_ids uuid[];
    strategies text[];
    ids uuid[];
    hashes bytea[];
BEGIN
    SELECT array_agg(ROW(coalesce(q.id, tasker.uuid_v7()), q.namespace, q.name, q.version, coalesce(q.context, '{}'), coalesce(q.priority, 0),
               q.idempotency_key, coalesce(q.correlation_id, tasker.uuid_v7()), q.parent_correlation_id, coalesce(q.tags, '{}'),
               coalesce(q.initiator, 'system'), coalesce(q.source_system, 'tasker'), coalesce(q.reason, 'Task requested'),
               q.run_at, q.traceparent)::tasker.task_request ORDER BY q.n),
           array_agg(t.id ORDER BY q.n), array_agg(t.identity_strategy ORDER BY q.n)
      INTO batch, template_ids, strategies
      FROM ROWS FROM (jsonb_to_recordset(requests) AS (id uuid, namespace text, name text, version text, context jsonb, priority integer,
               idempotency_key text, correlation_id uuid, parent_correlation_id uuid, tags text[], initiator text, source_system text,
               reason text, run_at timestamptz, traceparent text)) WITH ORDINALITY AS q(id, namespace, name, version, context, priority,
               idempotency_key, correlation_id, parent_correlation_id, tags, initiator, source_system, reason, run_at, traceparent, n)
      LEFT JOIN LATERAL (SELECT t.id, t.identity_strategy FROM tasker.templates t
                          WHERE t.namespace = q.namespace AND t.name = q.name AND (q.version IS NULL OR t.version = q.version)
                          ORDER BY t.created_at DESC, t.id DESC LIMIT 1) t ON true;

    PERFORM tasker.check_task_request(batch[n], template_ids[n], strategies[n]) FROM generate_subscripts(batch, 1) n;

    SELECT array_agg(b.id ORDER BY b.n),
           array_agg(tasker.identity_hash(template_ids[b.n], strategies[b.n], b.idempotency_key, b.context) ORDER BY b.n)
      INTO ids, hashes
      FROM unnest(batch) WITH ORDINALITY AS b(id, namespace, name, version, context, priority, idempotency_key, correlation_id,
               parent_correlation_id, tags, initiator, source_system, reason, run_at, traceparent, n);

    WITH task AS (
        INSERT INTO tasker.tasks (id, template_id, priority, enqueue_job_id, correlation_id, parent_correlation_id, run_at, context,
                                  identity_hash, idempotency_key, initiator, source_system, reason, tags, traceparent, tracestate,
                                  trace_root, correlation_label)
        SELECT r.id, template_ids[r.n], r.priority, nextval('{{river_schema}}.river_job_id_seq'), r.correlation_id,
               r.parent_correlation_id, r.run_at, r.context, hashes[r.n], r.idempotency_key, r.initiator, r.source_system, r.reason,
               r.tags, r.traceparent, requests->(r.n::integer - 1)->>'tracestate', requests->(r.n::integer - 1)->>'trace_root',
               (requests->(r.n::integer - 1)->>'correlation_label')::boolean
          FROM unnest(batch) WITH ORDINALITY AS r(id, namespace, name, version, context, priority, idempotency_key, correlation_id,
               parent_correlation_id, tags, initiator, source_system, reason, run_at, traceparent, n)
         ORDER BY hashes[r.n], r.n
            ON CONFLICT DO NOTHING
        RETURNING id, priority, enqueue_job_id, run_at
    ), transition AS (
        INSERT INTO tasker.task_transitions (task_id, seq, from_state, to_state) SELECT task.id, 1, NULL, 'pending' FROM task
    )
    INSERT INTO {{river_schema}}.river_job (id, kind, args, queue, priority, max_attempts, state, scheduled_at, tags)
    SELECT task.enqueue_job_id, 'tasker_enqueue', jsonb_build_object('task_id', task.id), 'orchestration',
           tasker.river_priority(task.priority), 25,
           (CASE WHEN task.run_at > now() THEN 'scheduled' ELSE 'available' END)::{{river_schema}}.river_job_state,
           greatest(task.run_at, now()), ARRAY[task.id::text]
      FROM task;

    IF notify THEN
        PERFORM pg_notify('{{river_schema}}.river_insert', '{"queue":"orchestration"}');
    END IF;

    RETURN QUERY
    SELECT o.n::integer, coalesce(own.id, other.id), own.id IS NOT NULL
      FROM ROWS FROM (unnest(ids), unnest(hashes)) WITH ORDINALITY AS o(id, hash, n)
      LEFT JOIN tasker.tasks own ON own.id = o.id
      LEFT JOIN tasker.tasks other ON own.id IS NULL AND other.identity_hash = o.hash
     ORDER BY o.n;
END
$$;
-- +goose StatementEnd

-- +goose Down

SET LOCAL lock_timeout = '3s';

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION tasker.create_tasks(requests jsonb, notify boolean DEFAULT true)
RETURNS TABLE (ordinal integer, id uuid, created boolean) LANGUAGE plpgsql
-- Every table is found by key. A plan made while the tables were empty must not scan them when they are large.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    batch tasker.task_request[];
    template_ids uuid[];
    strategies text[];
    ids uuid[];
    hashes bytea[];
BEGIN
    SELECT array_agg(ROW(coalesce(q.id, tasker.uuid_v7()), q.namespace, q.name, q.version, coalesce(q.context, '{}'), coalesce(q.priority, 0),
               q.idempotency_key, coalesce(q.correlation_id, tasker.uuid_v7()), q.parent_correlation_id, coalesce(q.tags, '{}'),
               coalesce(q.initiator, 'system'), coalesce(q.source_system, 'tasker'), coalesce(q.reason, 'Task requested'),
               q.run_at, q.traceparent)::tasker.task_request ORDER BY q.n),
           array_agg(t.id ORDER BY q.n), array_agg(t.identity_strategy ORDER BY q.n)
      INTO batch, template_ids, strategies
      FROM ROWS FROM (jsonb_to_recordset(requests) AS (id uuid, namespace text, name text, version text, context jsonb, priority integer,
               idempotency_key text, correlation_id uuid, parent_correlation_id uuid, tags text[], initiator text, source_system text,
               reason text, run_at timestamptz, traceparent text)) WITH ORDINALITY AS q(id, namespace, name, version, context, priority,
               idempotency_key, correlation_id, parent_correlation_id, tags, initiator, source_system, reason, run_at, traceparent, n)
      LEFT JOIN LATERAL (SELECT t.id, t.identity_strategy FROM tasker.templates t
                          WHERE t.namespace = q.namespace AND t.name = q.name AND (q.version IS NULL OR t.version = q.version)
                          ORDER BY t.created_at DESC, t.id DESC LIMIT 1) t ON true;

    PERFORM tasker.check_task_request(batch[n], template_ids[n], strategies[n]) FROM generate_subscripts(batch, 1) n;

    SELECT array_agg(b.id ORDER BY b.n),
           array_agg(tasker.identity_hash(template_ids[b.n], strategies[b.n], b.idempotency_key, b.context) ORDER BY b.n)
      INTO ids, hashes
      FROM unnest(batch) WITH ORDINALITY AS b(id, namespace, name, version, context, priority, idempotency_key, correlation_id,
               parent_correlation_id, tags, initiator, source_system, reason, run_at, traceparent, n);

    WITH task AS (
        INSERT INTO tasker.tasks (id, template_id, priority, enqueue_job_id, correlation_id, parent_correlation_id, run_at, context,
                                  identity_hash, idempotency_key, initiator, source_system, reason, tags, traceparent)
        SELECT r.id, template_ids[r.n], r.priority, nextval('{{river_schema}}.river_job_id_seq'), r.correlation_id,
               r.parent_correlation_id, r.run_at, r.context, hashes[r.n], r.idempotency_key, r.initiator, r.source_system, r.reason,
               r.tags, r.traceparent
          FROM unnest(batch) WITH ORDINALITY AS r(id, namespace, name, version, context, priority, idempotency_key, correlation_id,
               parent_correlation_id, tags, initiator, source_system, reason, run_at, traceparent, n)
         ORDER BY hashes[r.n], r.n
            ON CONFLICT DO NOTHING
        RETURNING id, priority, enqueue_job_id, run_at
    ), transition AS (
        INSERT INTO tasker.task_transitions (task_id, seq, from_state, to_state) SELECT task.id, 1, NULL, 'pending' FROM task
    )
    INSERT INTO {{river_schema}}.river_job (id, kind, args, queue, priority, max_attempts, state, scheduled_at, tags)
    SELECT task.enqueue_job_id, 'tasker_enqueue', jsonb_build_object('task_id', task.id), 'orchestration',
           tasker.river_priority(task.priority), 25,
           (CASE WHEN task.run_at > now() THEN 'scheduled' ELSE 'available' END)::{{river_schema}}.river_job_state,
           greatest(task.run_at, now()), ARRAY[task.id::text]
      FROM task;

    IF notify THEN
        PERFORM pg_notify('{{river_schema}}.river_insert', '{"queue":"orchestration"}');
    END IF;

    RETURN QUERY
    SELECT o.n::integer, coalesce(own.id, other.id), own.id IS NOT NULL
      FROM ROWS FROM (unnest(ids), unnest(hashes)) WITH ORDINALITY AS o(id, hash, n)
      LEFT JOIN tasker.tasks own ON own.id = o.id
      LEFT JOIN tasker.tasks other ON own.id IS NULL AND other.identity_hash = o.hash
     ORDER BY o.n;
END
$$;
-- +goose StatementEnd

ALTER TABLE tasker.tasks DROP COLUMN tracestate, DROP COLUMN trace_root, DROP COLUMN correlation_label;
