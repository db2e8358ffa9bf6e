// Package db is the bottom of Tasker: the one way to open a transaction, what Postgres' errors mean, and where River's
// tables are. The queries themselves stand in queries/, and sqlc makes dbsqlc from them.
package db
