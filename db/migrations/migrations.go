// Package migrations embeds the SQL of Tasker's schema, in goose's format. Package db/migration applies it.
package migrations

import "embed"

// FS holds the migrations, as they are written: with the token for River's schema.
//
//go:embed *.sql
var FS embed.FS
