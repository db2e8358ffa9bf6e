// Package promtest checks what asks for Tasker's metrics, without a server: the alerts, the dashboards and the queries in the
// documentation, against the catalogue of metrics and with Prometheus' own parser, engine and rules.
//
//	cd tools/promtest && go test -count=1 ./...
//
// Without -count=1 go would remember a success when only files outside of this module have changed.
//
// It is a module of its own, so that who imports tasker gets none of Prometheus.
package promtest
