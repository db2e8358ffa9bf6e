-- +goose Up

-- The schema of Tasker. River's tables are River's own; the token river_schema in double braces stands for the schema they
-- live in, and is filled in when the migration runs.
--
-- Column order follows what is read together; every state is text with a CHECK, so that psql shows words.
-- There are no foreign keys between the hot tables: rows of one task are written together in one transaction, checking each
-- one again costs a tenth of a step, and `tasker doctor` proves the references (I24).

CREATE SCHEMA IF NOT EXISTS tasker;

-- What was decided when the schema was made, for every process that opens it.
CREATE TABLE tasker.settings (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- The legal state changes, shared by the code (orchestration/dag) and `tasker doctor` (I16).
CREATE TABLE tasker.legal_transitions (
    entity text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    PRIMARY KEY (entity, from_state, to_state),
    CONSTRAINT legal_transitions_entity_valid CHECK (entity IN ('task', 'step'))
);

INSERT INTO tasker.legal_transitions (entity, from_state, to_state) VALUES
    ('task', 'pending', 'steps_in_process'),
    ('task', 'pending', 'complete'),
    ('task', 'pending', 'error'),
    ('task', 'pending', 'cancelled'),
    ('task', 'steps_in_process', 'waiting_for_dependencies'),
    ('task', 'steps_in_process', 'waiting_for_retry'),
    ('task', 'steps_in_process', 'blocked_by_failures'),
    ('task', 'steps_in_process', 'complete'),
    ('task', 'steps_in_process', 'cancelled'),
    ('task', 'waiting_for_dependencies', 'steps_in_process'),
    ('task', 'waiting_for_dependencies', 'blocked_by_failures'),
    ('task', 'waiting_for_dependencies', 'complete'),
    ('task', 'waiting_for_dependencies', 'cancelled'),
    ('task', 'waiting_for_retry', 'steps_in_process'),
    ('task', 'waiting_for_retry', 'blocked_by_failures'),
    ('task', 'waiting_for_retry', 'complete'),
    ('task', 'waiting_for_retry', 'cancelled'),
    ('task', 'blocked_by_failures', 'steps_in_process'),
    ('task', 'blocked_by_failures', 'waiting_for_retry'),
    ('task', 'blocked_by_failures', 'error'),
    ('task', 'blocked_by_failures', 'complete'),
    ('task', 'blocked_by_failures', 'cancelled'),
    ('task', 'blocked_by_failures', 'resolved_manually'),
    ('task', 'error', 'steps_in_process'),
    ('task', 'error', 'complete'),
    ('task', 'error', 'pending'),
    ('step', 'pending', 'enqueued'),
    ('step', 'pending', 'complete'),
    ('step', 'pending', 'resolved_manually'),
    ('step', 'pending', 'cancelled'),
    ('step', 'enqueued', 'in_progress'),
    ('step', 'enqueued', 'complete'),
    ('step', 'enqueued', 'resolved_manually'),
    ('step', 'enqueued', 'cancelled'),
    ('step', 'in_progress', 'enqueued'),
    ('step', 'in_progress', 'enqueued_for_orchestration'),
    ('step', 'in_progress', 'enqueued_as_error_for_orchestration'),
    ('step', 'in_progress', 'waiting_for_retry'),
    ('step', 'in_progress', 'complete'),
    ('step', 'in_progress', 'error'),
    ('step', 'in_progress', 'resolved_manually'),
    ('step', 'in_progress', 'cancelled'),
    ('step', 'enqueued_for_orchestration', 'complete'),
    ('step', 'enqueued_for_orchestration', 'resolved_manually'),
    ('step', 'enqueued_for_orchestration', 'cancelled'),
    ('step', 'enqueued_as_error_for_orchestration', 'waiting_for_retry'),
    ('step', 'enqueued_as_error_for_orchestration', 'error'),
    ('step', 'enqueued_as_error_for_orchestration', 'complete'),
    ('step', 'enqueued_as_error_for_orchestration', 'resolved_manually'),
    ('step', 'enqueued_as_error_for_orchestration', 'cancelled'),
    ('step', 'waiting_for_retry', 'enqueued'),
    ('step', 'waiting_for_retry', 'complete'),
    ('step', 'waiting_for_retry', 'resolved_manually'),
    ('step', 'waiting_for_retry', 'cancelled'),
    ('step', 'error', 'enqueued'),
    ('step', 'error', 'complete'),
    ('step', 'error', 'resolved_manually'),
    ('step', 'error', 'cancelled');

CREATE TABLE tasker.templates (
    id uuid PRIMARY KEY,
    namespace text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    identity_strategy text NOT NULL,
    definition jsonb NOT NULL,
    -- SHA-256 of the canonical definition: tells the same template registered again from a changed one.
    content_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT templates_namespace_name_version_key UNIQUE (namespace, name, version),
    CONSTRAINT templates_namespace_valid CHECK (namespace ~ '^[a-z0-9]+(_[a-z0-9]+)*$' AND length(namespace) <= 29),
    CONSTRAINT templates_name_valid CHECK (length(name) BETWEEN 1 AND 64),
    CONSTRAINT templates_version_valid CHECK (length(version) BETWEEN 1 AND 50),
    CONSTRAINT templates_identity_strategy_valid CHECK (identity_strategy IN ('strict', 'caller_provided', 'always_unique'))
);

CREATE TABLE tasker.tasks (
    id uuid PRIMARY KEY,
    template_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    priority smallint NOT NULL DEFAULT 0,
    -- Steps without children that are not yet complete: the task is complete when none is left.
    sinks_left integer NOT NULL DEFAULT 0,
    steps_failed integer NOT NULL DEFAULT 0,
    steps_retrying integer NOT NULL DEFAULT 0,
    -- Number of the newest row in task_transitions.
    transition_no integer NOT NULL DEFAULT 1,
    -- The tasker_enqueue job that will expand this task.
    enqueue_job_id bigint,
    correlation_id uuid NOT NULL,
    parent_correlation_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    run_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    context jsonb NOT NULL,
    -- Null for always_unique: then nothing can collide.
    identity_hash bytea,
    idempotency_key text,
    initiator text NOT NULL,
    source_system text NOT NULL,
    reason text NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    traceparent text,
    -- Why the task ended in error before it had steps: {"type", "message"}.
    failure jsonb,
    CONSTRAINT tasks_state_valid CHECK (state IN ('pending', 'steps_in_process', 'waiting_for_dependencies', 'waiting_for_retry',
        'blocked_by_failures', 'complete', 'error', 'cancelled', 'resolved_manually')),
    CONSTRAINT tasks_finished_at_when_terminal CHECK (
        (state IN ('complete', 'error', 'cancelled', 'resolved_manually')) = (finished_at IS NOT NULL)),
    CONSTRAINT tasks_priority_valid CHECK (priority BETWEEN -100 AND 100),
    CONSTRAINT tasks_counters_not_negative CHECK (sinks_left >= 0 AND steps_failed >= 0 AND steps_retrying >= 0)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

CREATE UNIQUE INDEX tasks_identity_hash_key ON tasker.tasks (identity_hash) WHERE identity_hash IS NOT NULL;
CREATE INDEX tasks_correlation_id_idx ON tasker.tasks (correlation_id);
-- For the sweep: tasks that wait to be expanded.
CREATE INDEX tasks_pending_idx ON tasker.tasks (coalesce(run_at, created_at)) WHERE state = 'pending';
-- For the promoter: tasks that start later.
CREATE INDEX tasks_run_at_idx ON tasker.tasks (run_at) WHERE state = 'pending' AND run_at IS NOT NULL;
-- For list filters and for counting what is open: small, because finished tasks leave it.
CREATE INDEX tasks_open_idx ON tasker.tasks (state, id) WHERE finished_at IS NULL;

CREATE TABLE tasker.steps (
    id uuid PRIMARY KEY,
    task_id uuid NOT NULL,
    name text NOT NULL,
    type text NOT NULL DEFAULT 'standard',
    state text NOT NULL DEFAULT 'pending',
    -- Index in topological order: ascending ids and positions agree, which is the lock order.
    position integer NOT NULL,
    handler text NOT NULL,
    -- The River queue of its jobs: the template's namespace.
    queue text NOT NULL,
    -- Copied from the task, so that a dispatch reads one row.
    priority smallint NOT NULL,
    sink boolean NOT NULL,
    parents_left integer NOT NULL DEFAULT 0,
    -- The fence: +1 on every dispatch. Everything a worker writes names it.
    claim_no integer NOT NULL DEFAULT 0,
    -- The user's budget: +1 at claim, given back on a loss.
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    losses integer NOT NULL DEFAULT 0,
    transition_no integer NOT NULL DEFAULT 1,
    -- The job that carries the step now: its tasker_execute job, then its tasker_result job.
    river_job_id bigint,
    worker_id text,
    -- Written by the claim, so that a claim whose commit was in doubt recognises itself.
    claim_token uuid,
    -- Set while a carrier is under way (enqueued, and both enqueued_*_for_orchestration states).
    dispatched_at timestamptz,
    started_at timestamptz,
    lease_expires_at timestamptz,
    retry_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    result jsonb,
    -- The last failure: {"type", "code", "message", "stack", "permanent"}.
    failure jsonb,
    CONSTRAINT steps_task_id_name_key UNIQUE (task_id, name),
    CONSTRAINT steps_state_valid CHECK (state IN ('pending', 'enqueued', 'in_progress', 'enqueued_for_orchestration',
        'enqueued_as_error_for_orchestration', 'waiting_for_retry', 'complete', 'error', 'cancelled', 'resolved_manually')),
    CONSTRAINT steps_lease_when_in_progress CHECK ((state = 'in_progress') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT steps_retry_at_when_waiting CHECK ((state = 'waiting_for_retry') = (retry_at IS NOT NULL)),
    CONSTRAINT steps_finished_at_when_terminal CHECK (
        (state IN ('complete', 'error', 'cancelled', 'resolved_manually')) = (finished_at IS NOT NULL)),
    CONSTRAINT steps_attempts_within_limit CHECK (attempts BETWEEN 0 AND greatest(max_attempts, 1)),
    CONSTRAINT steps_parents_left_not_negative CHECK (parents_left >= 0)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- One small partial index for each question the reaper, the promoter and the sweep ask.
CREATE INDEX steps_lease_idx ON tasker.steps (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX steps_retry_idx ON tasker.steps (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX steps_dispatched_idx ON tasker.steps (dispatched_at, id) WHERE dispatched_at IS NOT NULL;

CREATE TABLE tasker.step_edges (
    parent_id uuid NOT NULL,
    child_id uuid NOT NULL,
    PRIMARY KEY (parent_id, child_id)
);
CREATE INDEX step_edges_child_id_idx ON tasker.step_edges (child_id);

CREATE TABLE tasker.task_transitions (
    task_id uuid NOT NULL,
    seq integer NOT NULL,
    from_state text,
    to_state text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, seq)
);

CREATE TABLE tasker.step_transitions (
    step_id uuid NOT NULL,
    seq integer NOT NULL,
    claim_no integer NOT NULL,
    from_state text,
    to_state text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (step_id, seq)
);

-- One row for each execution that ended, however it ended: the audit of results.
CREATE TABLE tasker.step_attempts (
    step_id uuid NOT NULL,
    claim_no integer NOT NULL,
    attempt integer NOT NULL,
    outcome text NOT NULL,
    worker_id text,
    river_job_id bigint,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    failure jsonb,
    PRIMARY KEY (step_id, claim_no),
    CONSTRAINT step_attempts_outcome_valid CHECK (outcome IN ('complete', 'error', 'lost', 'released', 'cancelled'))
);
-- A step succeeds once, whatever the code believes (I07).
CREATE UNIQUE INDEX step_attempts_one_complete_key ON tasker.step_attempts (step_id) WHERE outcome = 'complete';

-- What people did, with their reason.
CREATE TABLE tasker.operator_actions (
    -- Made by the caller: an action whose commit was in doubt recognises itself.
    id uuid PRIMARY KEY,
    task_id uuid NOT NULL,
    step_name text,
    action text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT operator_actions_action_valid CHECK (action IN ('cancel_task', 'retry_task', 'retry_step', 'resolve_step')),
    CONSTRAINT operator_actions_reason_given CHECK (reason <> '')
);
CREATE INDEX operator_actions_task_id_idx ON tasker.operator_actions (task_id);

-- Live processes, by heartbeat: who serves which queue with which handlers.
CREATE TABLE tasker.processes (
    id text PRIMARY KEY,
    queues text[] NOT NULL,
    handlers text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- A version 7 UUID (RFC 9562): 48 bits of Unix milliseconds, then random bits. Postgres has its own only from version 18.
-- +goose StatementBegin
CREATE FUNCTION tasker.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid
$$;
-- +goose StatementEnd

-- Tasker's priority, -100 to 100 with higher first, as River's 1 to 4 with 1 first.
-- +goose StatementBegin
CREATE FUNCTION tasker.river_priority(priority integer) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN priority >= 50 THEN 1 WHEN priority >= 0 THEN 2 WHEN priority >= -50 THEN 3 ELSE 4 END::smallint
$$;
-- +goose StatementEnd

-- The identity of a task (spec 5.2): null when every task is its own. Parts are length-prefixed, so that no two requests
-- read the same. A given key wins over every strategy. jsonb's text form is canonical: sorted keys, no free white space.
-- +goose StatementBegin
CREATE FUNCTION tasker.identity_hash(template_id uuid, strategy text, key text, context jsonb)
RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN key IS NOT NULL THEN sha256(uuid_send(template_id) || 'k'::bytea || convert_to(key, 'UTF8'))
        WHEN strategy = 'strict' THEN sha256(uuid_send(template_id) || 's'::bytea || convert_to(context::text, 'UTF8'))
    END
$$;
-- +goose StatementEnd

-- One request as tasker.create_tasks reads it. Every field but namespace and name has a default.
CREATE TYPE tasker.task_request AS (
    id uuid,
    namespace text,
    name text,
    version text,
    context jsonb,
    priority integer,
    idempotency_key text,
    correlation_id uuid,
    parent_correlation_id uuid,
    tags text[],
    initiator text,
    source_system text,
    reason text,
    run_at timestamptz,
    traceparent text
);

-- Raises the first fault of a batch of requests, in words that say what to do.
-- +goose StatementBegin
CREATE FUNCTION tasker.check_task_request(r tasker.task_request, template_id uuid, strategy text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    max_context integer := coalesce((SELECT value::integer FROM tasker.settings WHERE name = 'max_context_bytes'), 1048576);
BEGIN
    IF template_id IS NULL THEN
        RAISE EXCEPTION 'unknown template %', concat(r.namespace, '/', r.name, ' version ' || r.version)
            USING ERRCODE = 'TK404', HINT = coalesce(
                'registered: ' || (SELECT string_agg(format('%s/%s@%s', t.namespace, t.name, t.version), ', ' ORDER BY t.namespace, t.name, t.version)
                    FROM (SELECT * FROM tasker.templates ORDER BY (namespace = r.namespace) DESC, created_at DESC LIMIT 8) t),
                'no template is registered yet: start a worker that has it');
    ELSIF r.idempotency_key = '' OR length(r.idempotency_key) > 255 THEN
        RAISE EXCEPTION 'idempotency_key must have 1 to 255 characters' USING ERRCODE = 'TK400';
    ELSIF strategy = 'caller_provided' AND r.idempotency_key IS NULL THEN
        RAISE EXCEPTION 'template %/% needs an idempotency_key (identity strategy caller_provided)', r.namespace, r.name
            USING ERRCODE = 'TK400';
    ELSIF NOT isfinite(r.run_at) OR r.run_at > now() + interval '10 years' THEN
        RAISE EXCEPTION 'run_at % is not within ten years', r.run_at USING ERRCODE = 'TK400';
    ELSIF r.priority NOT BETWEEN -100 AND 100 THEN
        RAISE EXCEPTION 'priority % is outside -100 to 100', r.priority USING ERRCODE = 'TK400';
    ELSIF greatest(length(r.initiator), length(r.source_system)) > 128 OR length(r.reason) > 500 THEN
        RAISE EXCEPTION 'initiator and source_system may have 128 characters, reason 500' USING ERRCODE = 'TK400';
    ELSIF octet_length(r.context::text) > max_context THEN
        RAISE EXCEPTION 'context has % bytes, more than the % allowed', octet_length(r.context::text), max_context
            USING ERRCODE = 'TK400', HINT = 'store large data elsewhere and pass a reference';
    END IF;
END
$$;
-- +goose StatementEnd

-- The one way a task begins, for Go and SQL alike: tasks, first transitions and tasker_enqueue jobs of a batch, in the
-- caller's transaction. `requests` is a JSON array of objects with the fields of tasker.task_request. Returns a row per
-- request in its order; created is false where the identity existed already, and id is then the existing task's.
-- +goose StatementBegin
CREATE FUNCTION tasker.create_tasks(requests jsonb, notify boolean DEFAULT true)
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

-- Starts one task from any language, in the caller's transaction; see tasker.create_tasks. The same identity returns the
-- existing task and says so in a notice.
-- +goose StatementBegin
CREATE FUNCTION tasker.create_task(
    namespace text,
    name text,
    context jsonb DEFAULT '{}',
    version text DEFAULT NULL,
    priority integer DEFAULT 0,
    idempotency_key text DEFAULT NULL,
    correlation_id uuid DEFAULT NULL,
    parent_correlation_id uuid DEFAULT NULL,
    tags text[] DEFAULT '{}',
    initiator text DEFAULT 'system',
    source_system text DEFAULT 'sql',
    reason text DEFAULT 'Task requested',
    run_at timestamptz DEFAULT NULL,
    traceparent text DEFAULT NULL,
    notify boolean DEFAULT true
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    task record;
BEGIN
    SELECT * INTO task FROM tasker.create_tasks(jsonb_build_array(jsonb_build_object(
        'namespace', namespace, 'name', name, 'version', version, 'context', context, 'priority', priority,
        'idempotency_key', idempotency_key, 'correlation_id', correlation_id, 'parent_correlation_id', parent_correlation_id,
        'tags', tags, 'initiator', initiator, 'source_system', source_system, 'reason', reason, 'run_at', run_at,
        'traceparent', traceparent)), notify);
    IF NOT task.created THEN
        RAISE NOTICE 'task % exists already with this identity; nothing was created', task.id;
    END IF;
    RETURN task.id;
END
$$;
-- +goose StatementEnd

-- One line a person can read for each task: where it stands, and why it does not move.
CREATE VIEW tasker.task_status AS
SELECT t.id, p.namespace, p.name, p.version, t.state,
       s.done || '/' || s.total AS steps,
       CASE
           WHEN t.state = 'pending' AND t.run_at > now() THEN 'starts at ' || t.run_at
           WHEN t.state = 'pending' THEN 'waits for an orchestrator'
           WHEN t.failure IS NOT NULL THEN t.failure->>'message'
           WHEN t.state IN ('error', 'blocked_by_failures') THEN
               (SELECT concat(f.name, ': ', f.failure->>'code' || ': ', coalesce(f.failure->>'message', 'failed'),
                              CASE WHEN (f.failure->>'permanent')::boolean THEN ' (permanent)'
                                   ELSE format(' (%s of %s attempts)', f.attempts, greatest(f.max_attempts, 1)) END)
                  FROM tasker.steps f WHERE f.task_id = t.id AND f.state = 'error' ORDER BY f.position LIMIT 1)
           WHEN t.finished_at IS NULL AND s.unserved IS NOT NULL THEN
               format('no worker serves queue "%s"', s.unserved)
           WHEN s.retrying IS NOT NULL THEN format('%s retries at %s', s.retrying, s.retry_at)
           WHEN s.running IS NOT NULL THEN 'runs ' || s.running
           WHEN s.waiting IS NOT NULL THEN 'waits for a worker to take ' || s.waiting
       END AS problem,
       t.priority, t.tags, t.initiator, t.correlation_id, t.created_at, t.finished_at,
       coalesce(t.finished_at, now()) - t.created_at AS age
  FROM tasker.tasks t
  JOIN tasker.templates p ON p.id = t.template_id
 CROSS JOIN LATERAL (
       SELECT count(*) AS total,
              count(*) FILTER (WHERE x.state IN ('complete', 'resolved_manually')) AS done,
              min(x.retry_at) AS retry_at,
              string_agg(x.name, ', ' ORDER BY x.position) FILTER (WHERE x.state = 'waiting_for_retry') AS retrying,
              string_agg(x.name, ', ' ORDER BY x.position) FILTER (WHERE x.state = 'in_progress') AS running,
              string_agg(x.name, ', ' ORDER BY x.position) FILTER (WHERE x.state = 'enqueued') AS waiting,
              min(x.queue) FILTER (WHERE x.state = 'enqueued' AND NOT EXISTS (SELECT 1 FROM tasker.processes w
                  WHERE x.queue = ANY (w.queues) AND w.seen_at > now() - interval '30 seconds')) AS unserved
         FROM tasker.steps x WHERE x.task_id = t.id) s;

-- +goose Down
DROP VIEW tasker.task_status;
DROP FUNCTION tasker.create_task;
DROP FUNCTION tasker.create_tasks;
DROP FUNCTION tasker.check_task_request;
DROP TYPE tasker.task_request;
DROP FUNCTION tasker.identity_hash;
DROP FUNCTION tasker.river_priority;
DROP FUNCTION tasker.uuid_v7;
DROP TABLE tasker.processes, tasker.operator_actions, tasker.step_attempts, tasker.step_transitions, tasker.task_transitions,
    tasker.step_edges, tasker.steps, tasker.tasks, tasker.templates, tasker.legal_transitions, tasker.settings;
