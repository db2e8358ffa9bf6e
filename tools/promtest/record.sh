#!/usr/bin/env bash
# Records testdata/recorded.txt: what an orchestrator and a worker report at /metrics after a few tasks, with the labels job and
# instance that Prometheus adds. Run it after a change of the catalogue's labels or of their values.
#
# Nothing listens where the two export to, so that failures of exports are in it too; they take a minute to happen.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
pids=()
stop() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait
	rm -rf "$work"
}
trap stop EXIT

(cd "$repo" && go build -o "$work/tasker" ./cmd/tasker)
cd "$work"

serve() { # role, port
	TELEMETRY_ENABLED=true OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 DEPLOYMENT_ENVIRONMENT=test \
		OTEL_SERVICE_NAME="tasker-$1" ./tasker serve --role "$1" --listen "127.0.0.1:$2" >"$1.log" 2>&1 &
	pids=("$!" "${pids[@]}")
	until curl -fs "127.0.0.1:$2/health/ready" >/dev/null; do sleep 0.2; done
}

metrics() { # role, port
	# Of the hundred statements a few will do.
	curl -fs "127.0.0.1:$2/metrics" | grep -v '^#' |
		awk '!/^tasker_sql_/ || /query_type="(StepClaimMany|TaskLockMany|begin|commit|river.JobGetAvailable)"/' |
		sed -E 's/^([a-z_]+)\{/\1{job="tasker-'"$1"'",instance="'"$1"'-1",/; s/^([a-z_]+) /\1{job="tasker-'"$1"'",instance="'"$1"'-1"} /'
}

unset DATABASE_URL
serve orchestrator 18484
DATABASE_URL=$(sed -n 's/.*"url": "\(.*\)",/\1/p' .tasker/dev.json)
export DATABASE_URL
serve worker 18485

./tasker task create rust_e2e_linear/mathematical_sequence --input '{"even_number": 6}' --wait >/dev/null
./tasker task create rust_e2e_retry/retry_mechanics_test --input '{}' --wait >/dev/null
./tasker task create test_errors/permanent_error_only --input '{}' --wait >/dev/null || true
./tasker task create rust_e2e_linear/mathematical_sequence --input '{"even_number": 8}' --at 1h >/dev/null
sleep 90 # for the gauges, and the exports that fail

{ metrics orchestrator 18484; metrics worker 18485; } >"$repo/tools/promtest/testdata/recorded.txt"
