-- name: TemplateUpsert :one
WITH used AS (
    SELECT t.id, EXISTS (SELECT 1 FROM tasker.tasks k WHERE k.template_id = t.id) AS used
      FROM tasker.templates t
     WHERE t.namespace = @namespace AND t.name = @name AND t.version = @version
)
INSERT INTO tasker.templates AS t (id, namespace, name, version, identity_strategy, definition, content_hash)
VALUES (@id, @namespace, @name, @version, @identity_strategy, @definition, @content_hash)
    ON CONFLICT ON CONSTRAINT templates_namespace_name_version_key DO UPDATE
   SET definition = excluded.definition, content_hash = excluded.content_hash, identity_strategy = excluded.identity_strategy
 WHERE t.content_hash = excluded.content_hash OR NOT (SELECT u.used FROM used u)
RETURNING t.id;

-- name: TemplateGetMany :many
SELECT id, definition FROM tasker.templates WHERE id = ANY (@ids::uuid[]);

-- name: TemplateFind :one
SELECT id, definition
  FROM tasker.templates
 WHERE namespace = @namespace AND name = @name AND (@version::text = '' OR version = @version)
 ORDER BY created_at DESC, id DESC
 LIMIT 1;

-- name: TemplateList :many
SELECT t.id, t.namespace, t.name, t.version, t.identity_strategy, t.created_at, jsonb_array_length(t.definition->'steps')::integer AS steps
  FROM tasker.templates t
 ORDER BY t.namespace, t.name, t.created_at;
