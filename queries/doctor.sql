-- The invariants of Tasker as queries: each names what breaks it. Those about time have an age; the others must hold at any
-- instant. None of them changes anything.

-- I01: nothing is live under a task that has ended.
-- name: DoctorI01 :many
SELECT concat('task ', t.id, ' is ', t.state, ', step ', s.name, ' is ', s.state)::text AS subject
  FROM tasker.tasks t JOIN tasker.steps s ON s.task_id = t.id
 WHERE t.state IN ('complete', 'error', 'cancelled', 'resolved_manually') AND s.state IN ('enqueued', 'in_progress', 'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration', 'waiting_for_retry')
 LIMIT @max;

-- I02: a task whose steps have all ended has ended (a lost finalization).
-- name: DoctorI02 :many
SELECT concat('task ', t.id, ' is ', t.state)::text AS subject
  FROM tasker.tasks t
 WHERE t.finished_at IS NULL AND t.state NOT IN ('pending', 'blocked_by_failures')
   AND t.updated_at < now() - make_interval(secs => @age_seconds::float8)
   AND NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.id AND (s.finished_at IS NULL OR s.updated_at > now() - make_interval(secs => @age_seconds::float8)))
 LIMIT @max;

-- I03: a complete task has only complete or manually resolved steps.
-- name: DoctorI03 :many
SELECT concat('task ', t.id, ' is complete, step ', s.name, ' is ', s.state)::text AS subject
  FROM tasker.tasks t JOIN tasker.steps s ON s.task_id = t.id
 WHERE t.state = 'complete' AND s.state NOT IN ('complete', 'resolved_manually')
 LIMIT @max;

-- I04: no step was dispatched before all its parents succeeded.
-- name: DoctorI04 :many
SELECT concat('step ', c.id, ' (', c.name, ') is ', c.state, ', its parent ', p.name, ' is ', p.state)::text AS subject
  FROM tasker.step_edges e JOIN tasker.steps p ON p.id = e.parent_id JOIN tasker.steps c ON c.id = e.child_id
 WHERE c.state NOT IN ('pending', 'cancelled') AND p.state NOT IN ('complete', 'resolved_manually')
 LIMIT @max;

-- I05: what is ready is dispatched (a lost wake-up).
-- name: DoctorI05 :many
SELECT concat('step ', c.id, ' (', c.name, ') of task ', c.task_id)::text AS subject
  FROM tasker.steps c JOIN tasker.tasks t ON t.id = c.task_id
 WHERE c.state = 'pending' AND t.finished_at IS NULL AND t.state <> 'blocked_by_failures'
   AND c.updated_at < now() - make_interval(secs => @age_seconds::float8)
   AND NOT EXISTS (SELECT 1 FROM tasker.step_edges e JOIN tasker.steps p ON p.id = e.parent_id
                    WHERE e.child_id = c.id AND (p.state NOT IN ('complete', 'resolved_manually') OR p.updated_at > now() - make_interval(secs => @age_seconds::float8)))
 LIMIT @max;

-- I06: every counter equals a recount: parents_left of pending steps, and the counters of tasks.
-- name: DoctorI06 :many
SELECT concat('step ', c.id, ' (', c.name, ') has parents_left ', c.parents_left)::text AS subject
  FROM tasker.steps c
 WHERE c.state = 'pending' AND c.parents_left <> (SELECT count(*) FROM tasker.step_edges e JOIN tasker.steps p ON p.id = e.parent_id
                                                   WHERE e.child_id = c.id AND p.state NOT IN ('complete', 'resolved_manually'))
 UNION ALL
SELECT concat('task ', t.id, ' has counters ', t.sinks_left, '/', t.steps_failed, '/', t.steps_retrying, ', recounted ', r.sinks, '/', r.failed, '/', r.retrying)::text
  FROM tasker.tasks t
  JOIN (SELECT s.task_id, count(*) FILTER (WHERE s.sink AND s.state NOT IN ('complete', 'resolved_manually')) AS sinks,
               count(*) FILTER (WHERE s.state = 'error') AS failed, count(*) FILTER (WHERE s.state = 'waiting_for_retry') AS retrying
          FROM tasker.steps s GROUP BY s.task_id) r ON r.task_id = t.id
 WHERE t.state <> 'pending' AND (t.sinks_left, t.steps_failed, t.steps_retrying) <> (r.sinks, r.failed, r.retrying)
 LIMIT @max;

-- I07: a step has at most one success.
-- name: DoctorI07 :many
SELECT concat('step ', a.step_id, ' succeeded ', count(*), ' times')::text AS subject
  FROM tasker.step_attempts a WHERE a.outcome = 'complete'
 GROUP BY a.step_id HAVING count(*) > 1
 LIMIT @max;

-- I08: a complete step has its winning attempt under its own claim number, unless a person completed it.
-- name: DoctorI08 :many
SELECT concat('step ', s.id, ' (', s.name, ') claim ', s.claim_no)::text AS subject
  FROM tasker.steps s
  LEFT JOIN tasker.step_attempts a ON a.step_id = s.id AND a.claim_no = s.claim_no AND a.outcome = 'complete'
 WHERE s.state = 'complete' AND a.step_id IS NULL
   AND NOT EXISTS (SELECT 1 FROM tasker.operator_actions o WHERE o.task_id = s.task_id AND o.step_name = s.name AND o.action = 'resolve_step')
 LIMIT @max;

-- I09: attempts stay within their limit.
-- name: DoctorI09 :many
SELECT concat('step ', s.id, ' (', s.name, ') has ', s.attempts, ' attempts of ', s.max_attempts)::text AS subject
  FROM tasker.steps s WHERE s.attempts > greatest(s.max_attempts, 1)
 LIMIT @max;

-- I10: executions of a step that counted never overlap.
-- name: DoctorI10 :many
SELECT concat('step ', a.step_id, ' claims ', a.claim_no, ' and ', b.claim_no)::text AS subject
  FROM tasker.step_attempts a
  JOIN tasker.step_attempts b ON b.step_id = a.step_id AND b.claim_no > a.claim_no
 WHERE b.started_at < a.finished_at
 LIMIT @max;

-- I11: a running step has no attempt that already ended under its claim.
-- name: DoctorI11 :many
SELECT concat('step ', s.id, ' (', s.name, ') claim ', s.claim_no)::text AS subject
  FROM tasker.steps s JOIN tasker.step_attempts a ON a.step_id = s.id AND a.claim_no = s.claim_no
 WHERE s.state IN ('enqueued', 'in_progress')
 LIMIT @max;

-- I12: no lease ended long ago without being reaped.
-- name: DoctorI12 :many
SELECT concat('step ', s.id, ' (', s.name, ') on ', s.worker_id, ' since ', s.lease_expires_at)::text AS subject
  FROM tasker.steps s WHERE s.lease_expires_at < now() - make_interval(secs => @age_seconds::float8)
 LIMIT @max;

-- I13: what is dispatched, and every pending task, has a live carrier.
-- name: DoctorI13 :many
SELECT concat('step ', s.id, ' (', s.name, ') is ', s.state, ', its job is ', coalesce(j.state::text, 'gone'))::text AS subject
  FROM tasker.steps s LEFT JOIN /* TEMPLATE: schema */river_job j ON j.id = s.river_job_id
 WHERE s.dispatched_at < now() - make_interval(secs => @age_seconds::float8) AND (j.id IS NULL OR j.state IN ('cancelled', 'completed', 'discarded'))
 UNION ALL
SELECT concat('task ', t.id, ' is pending, its job is ', coalesce(j.state::text, 'gone'))::text
  FROM tasker.tasks t LEFT JOIN /* TEMPLATE: schema */river_job j ON j.id = t.enqueue_job_id
 WHERE t.state = 'pending' AND coalesce(t.run_at, t.created_at) < now() - make_interval(secs => @age_seconds::float8)
   AND (j.id IS NULL OR j.state IN ('cancelled', 'completed', 'discarded'))
 LIMIT @max;

-- I14: a running carrier has a step that wants it.
-- name: DoctorI14 :many
SELECT concat('job ', j.id)::text AS subject
  FROM /* TEMPLATE: schema */river_job j LEFT JOIN tasker.steps s ON s.id = (j.args->>'step_id')::uuid
 WHERE j.kind = 'tasker_execute' AND j.state = 'running' AND j.attempted_at < now() - make_interval(secs => @age_seconds::float8)
   AND (s.id IS NULL OR s.river_job_id IS DISTINCT FROM j.id OR s.state NOT IN ('enqueued', 'in_progress'))
 LIMIT @max;

-- I15: nothing was fetched by River and never claimed.
-- name: DoctorI15 :many
SELECT concat('job ', j.id, ', step ', s.id, ' (', s.name, ')')::text AS subject
  FROM /* TEMPLATE: schema */river_job j JOIN tasker.steps s ON s.river_job_id = j.id
 WHERE j.state = 'running' AND j.attempted_at < now() - make_interval(secs => @age_seconds::float8) AND s.dispatched_at IS NOT NULL
 LIMIT @max;

-- I16: every transition is legal.
-- name: DoctorI16 :many
SELECT concat('step ', x.step_id, ' went from ', x.from_state, ' to ', x.to_state)::text AS subject
  FROM tasker.step_transitions x
  LEFT JOIN tasker.legal_transitions l ON l.entity = 'step' AND l.from_state = x.from_state AND l.to_state = x.to_state
 WHERE x.from_state IS NOT NULL AND l.entity IS NULL
 UNION ALL
SELECT concat('task ', x.task_id, ' went from ', x.from_state, ' to ', x.to_state)::text
  FROM tasker.task_transitions x
  LEFT JOIN tasker.legal_transitions l ON l.entity = 'task' AND l.from_state = x.from_state AND l.to_state = x.to_state
 WHERE x.from_state IS NOT NULL AND l.entity IS NULL
 LIMIT @max;

-- I17: transitions form one unbroken chain from nothing.
-- name: DoctorI17 :many
SELECT concat(x.entity, ' ', x.id, ' breaks at transition ', x.seq)::text AS subject
  FROM (SELECT 'step' AS entity, s.step_id AS id, s.seq, s.from_state,
               lag(s.to_state) OVER (PARTITION BY s.step_id ORDER BY s.seq) AS before, lag(s.seq) OVER (PARTITION BY s.step_id ORDER BY s.seq) AS seq_before
          FROM tasker.step_transitions s
         UNION ALL
        SELECT 'task', t.task_id, t.seq, t.from_state, lag(t.to_state) OVER (PARTITION BY t.task_id ORDER BY t.seq),
               lag(t.seq) OVER (PARTITION BY t.task_id ORDER BY t.seq)
          FROM tasker.task_transitions t) x
 WHERE (x.seq_before IS NULL AND (x.from_state IS NOT NULL OR x.seq <> 1))
    OR (x.seq_before IS NOT NULL AND (x.from_state IS DISTINCT FROM x.before OR x.seq <> x.seq_before + 1))
 LIMIT @max;

-- I18: the last transition is the current state.
-- name: DoctorI18 :many
SELECT concat('step ', s.id, ' (', s.name, ') is ', s.state)::text AS subject
  FROM tasker.steps s LEFT JOIN tasker.step_transitions x ON x.step_id = s.id AND x.seq = s.transition_no
 WHERE x.to_state IS DISTINCT FROM s.state OR EXISTS (SELECT 1 FROM tasker.step_transitions y WHERE y.step_id = s.id AND y.seq > s.transition_no)
 UNION ALL
SELECT concat('task ', t.id, ' is ', t.state)::text
  FROM tasker.tasks t LEFT JOIN tasker.task_transitions x ON x.task_id = t.id AND x.seq = t.transition_no
 WHERE x.to_state IS DISTINCT FROM t.state OR EXISTS (SELECT 1 FROM tasker.task_transitions y WHERE y.task_id = t.id AND y.seq > t.transition_no)
 LIMIT @max;

-- I19: nothing leaves complete, cancelled or resolved_manually.
-- name: DoctorI19 :many
SELECT concat('step ', x.step_id, ' left ', x.from_state)::text AS subject
  FROM tasker.step_transitions x WHERE x.from_state IN ('complete', 'cancelled', 'resolved_manually')
 UNION ALL
SELECT concat('task ', x.task_id, ' left ', x.from_state)::text
  FROM tasker.task_transitions x WHERE x.from_state IN ('complete', 'cancelled', 'resolved_manually')
 LIMIT @max;

-- I20: edges stay inside one task and go up in position, so no cycle is possible.
-- name: DoctorI20 :many
SELECT concat('edge ', e.parent_id, ' to ', e.child_id)::text AS subject
  FROM tasker.step_edges e JOIN tasker.steps p ON p.id = e.parent_id JOIN tasker.steps c ON c.id = e.child_id
 WHERE p.task_id <> c.task_id OR p.position >= c.position
 LIMIT @max;

-- I21: no due retry was left behind.
-- name: DoctorI21 :many
SELECT concat('step ', s.id, ' (', s.name, ') due ', s.retry_at)::text AS subject
  FROM tasker.steps s WHERE s.retry_at < now() - make_interval(secs => @age_seconds::float8)
 LIMIT @max;

-- I22: the stored result came from the last claim.
-- name: DoctorI22 :many
SELECT concat('step ', s.id, ' (', s.name, ') has claim ', s.claim_no, ', completed under ', x.claim_no)::text AS subject
  FROM tasker.steps s JOIN tasker.step_transitions x ON x.step_id = s.id AND x.to_state = 'complete'
 WHERE s.state = 'complete' AND x.claim_no <> s.claim_no
 LIMIT @max;

-- I23: finished_at is set exactly when a task or step has ended.
-- name: DoctorI23 :many
SELECT concat('task ', t.id, ' is ', t.state)::text AS subject FROM tasker.tasks t WHERE (t.state IN ('complete', 'error', 'cancelled', 'resolved_manually')) <> (t.finished_at IS NOT NULL)
 UNION ALL
SELECT concat('step ', s.id, ' is ', s.state)::text FROM tasker.steps s WHERE (s.state IN ('complete', 'error', 'cancelled', 'resolved_manually')) <> (s.finished_at IS NOT NULL)
 LIMIT @max;

-- I24: no row is an orphan, and no live task is empty.
-- name: DoctorI24 :many
SELECT concat('step ', s.id, ' has no task')::text AS subject
  FROM tasker.steps s LEFT JOIN tasker.tasks t ON t.id = s.task_id WHERE t.id IS NULL
 UNION ALL
SELECT concat('task ', t.id, ' is ', t.state, ' and has no steps')::text
  FROM tasker.tasks t
 WHERE t.state NOT IN ('pending', 'error', 'cancelled') AND NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.task_id = t.id)
 UNION ALL
SELECT concat('task ', t.id, ' has no template')::text
  FROM tasker.tasks t LEFT JOIN tasker.templates p ON p.id = t.template_id WHERE p.id IS NULL
 UNION ALL
SELECT concat('edge ', e.parent_id, ' to ', e.child_id, ' has no step')::text
  FROM tasker.step_edges e
 WHERE NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.id = e.parent_id) OR NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.id = e.child_id)
 UNION ALL
SELECT concat('attempt of step ', a.step_id, ', which is gone')::text
  FROM tasker.step_attempts a WHERE NOT EXISTS (SELECT 1 FROM tasker.steps s WHERE s.id = a.step_id)
 LIMIT @max;

-- OP1: dead rows pile up.
-- name: DoctorOP1 :many
SELECT concat(u.schemaname, '.', u.relname, ': ', u.n_dead_tup, ' dead rows')::text AS subject
  FROM pg_catalog.pg_stat_user_tables u
 WHERE u.n_dead_tup > greatest(50000, u.n_live_tup) AND (u.schemaname = 'tasker' OR u.relname LIKE 'river%')
 LIMIT @max;

-- OP2: something holds an old snapshot, so that vacuum cannot clean.
-- name: DoctorOP2 :many
SELECT concat('process ', a.pid, ' (', a.application_name, ') since ', a.xact_start)::text AS subject
  FROM pg_catalog.pg_stat_activity a WHERE a.backend_xmin IS NOT NULL AND a.xact_start < now() - interval '5 minutes'
 UNION ALL
SELECT concat('prepared transaction ', p.gid)::text FROM pg_catalog.pg_prepared_xacts p WHERE p.prepared < now() - interval '5 minutes'
 UNION ALL
SELECT concat('replication slot ', r.slot_name)::text FROM pg_catalog.pg_replication_slots r
 WHERE greatest(coalesce(age(r.xmin), 0), coalesce(age(r.catalog_xmin), 0)) > 1000000
 LIMIT @max;

-- OP3: a sequence is more than half used.
-- name: DoctorOP3 :many
SELECT concat(s.schemaname, '.', s.sequencename)::text AS subject
  FROM pg_catalog.pg_sequences s WHERE s.last_value > 0.5 * s.max_value AND (s.schemaname = 'tasker' OR s.sequencename LIKE 'river%')
 LIMIT @max;

-- OP4: transaction ids are running out.
-- name: DoctorOP4 :many
SELECT concat('database ', d.datname)::text AS subject
  FROM pg_catalog.pg_database d WHERE age(d.datfrozenxid) > 1000000000 OR mxid_age(d.datminmxid) > 1000000000
 LIMIT @max;

-- OP5: the notification queue fills: a listener sits in a transaction.
-- name: DoctorOP5 :many
SELECT concat('notification queue ', round((pg_notification_queue_usage() * 100)::numeric, 1), ' % full')::text AS subject
 WHERE pg_notification_queue_usage() > 0.1
 LIMIT @max;

-- OP6: an index is broken.
-- name: DoctorOP6 :many
SELECT concat('index ', i.indexrelid::regclass::text)::text AS subject FROM pg_catalog.pg_index i WHERE NOT i.indisvalid
 LIMIT @max;

-- OP7: sessions wait long for locks.
-- name: DoctorOP7 :many
SELECT concat('process ', a.pid, ' (', a.application_name, ') since ', a.state_change)::text AS subject
  FROM pg_catalog.pg_stat_activity a WHERE a.wait_event_type = 'Lock' AND a.state_change < now() - interval '5 seconds'
 LIMIT @max;

-- OP8: River has no leader, so its finished jobs are not cleaned.
-- name: DoctorOP8 :many
SELECT 'no leader'::text AS subject
 WHERE NOT EXISTS (SELECT 1 FROM /* TEMPLATE: schema */river_leader l WHERE l.expires_at > now())
 LIMIT @max;

-- OP9: work waits long in a queue.
-- name: DoctorOP9 :many
SELECT concat('queue ', j.queue, ': ', count(*), ' jobs, the oldest since ', min(j.scheduled_at))::text AS subject
  FROM /* TEMPLATE: schema */river_job j
 WHERE j.state = 'available' AND j.scheduled_at < now() - interval '1 minute' AND j.kind IN ('tasker_enqueue', 'tasker_execute', 'tasker_result')
 GROUP BY j.queue
 LIMIT @max;

-- OP10: an id column that can overflow.
-- name: DoctorOP10 :many
SELECT concat(c.relname, '.', a.attname)::text AS subject
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'tasker' AND c.relkind = 'r' AND c.relname <> 'migrations' AND a.attnum > 0 AND NOT a.attisdropped
   AND a.atttypid = 'int4'::regtype AND (a.attname = 'id' OR a.attname LIKE '%\_id')
 LIMIT @max;

-- OP11: a definer function without a fixed search path.
-- name: DoctorOP11 :many
SELECT p.oid::regprocedure::text AS subject
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.prosecdef AND n.nspname = 'tasker' AND NOT coalesce(p.proconfig::text LIKE '%search_path=%', false)
 LIMIT @max;

-- OP13: this role may do more than running tasks needs.
-- name: DoctorOP13 :many
SELECT concat('role ', r.rolname, ' is a superuser')::text AS subject FROM pg_catalog.pg_roles r WHERE r.rolname = current_user AND r.rolsuper
 UNION ALL
SELECT concat('everybody may create objects in schema ', n.nspname)::text FROM pg_catalog.pg_namespace n
 WHERE n.nspname = 'tasker' AND has_schema_privilege('public', n.oid, 'CREATE')
 LIMIT @max;

-- DatabaseClock is compared with this host's (OP12).
-- name: DatabaseClock :one
SELECT clock_timestamp()::timestamptz AS now;

-- StepsReady counts again what pending steps of a task still wait for, for a repair.
-- name: StepsReady :many
SELECT c.name
  FROM tasker.steps c
 WHERE c.task_id = @task_id AND c.state = 'pending'
   AND NOT EXISTS (SELECT 1 FROM tasker.step_edges e JOIN tasker.steps p ON p.id = e.parent_id
                    WHERE e.child_id = c.id AND p.state NOT IN ('complete', 'resolved_manually'))
 ORDER BY c.position;

-- TasksUndispatched lists tasks with a step that is ready and was not dispatched (I05), for a repair.
-- name: TasksUndispatched :many
SELECT DISTINCT c.task_id
  FROM tasker.steps c JOIN tasker.tasks t ON t.id = c.task_id
 WHERE c.state = 'pending' AND t.finished_at IS NULL AND t.state <> 'blocked_by_failures'
   AND c.updated_at < now() - make_interval(secs => @age_seconds::float8)
   AND NOT EXISTS (SELECT 1 FROM tasker.step_edges e JOIN tasker.steps p ON p.id = e.parent_id
                    WHERE e.child_id = c.id AND p.state NOT IN ('complete', 'resolved_manually'))
 LIMIT @max;
