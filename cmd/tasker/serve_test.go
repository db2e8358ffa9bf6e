package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestOrchestratorAndWorkerAreTwoProcesses(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newShell(t, url)
	s.serve("--role", "orchestrator", "--id", "the-orchestrator")
	worker := s.serve("--role", "worker", "--id", "the-worker", "--namespace", "rust_e2e_tree", "--namespace", "rust_e2e_diamond")
	require.Contains(t, worker.text(), "50 slots each in [rust_e2e_diamond rust_e2e_tree]")
	require.Equal(t, "18446744073709551616\n",
		s.ok("task", "create", "rust_e2e_tree/hierarchical_tree", "-i", `{"even_number":2}`, "--wait"))
	require.Equal(t, []string{"the-worker"}, ask[[]string](t, url, "SELECT array_agg(DISTINCT worker_id) FROM tasker.step_attempts"))
	require.Equal(t, 8, ask[int](t, url, "SELECT count(*) FROM river_job WHERE kind = 'tasker_result' AND attempted_by[1] = 'the-orchestrator'"))
	message := s.fails(exitTimeout, "task", "create", "rust_e2e_linear/mathematical_sequence", "-i", `{"even_number":2}`,
		"--wait", "--timeout", "1s")
	require.Contains(t, message, "deadline exceeded", "nobody works that namespace")
	s.serve("--role", "worker")
	require.Equal(t, "65536\n", s.ok("task", "wait", "@last"))
}

func TestRiverUIShowsTheJobsOfEachKind(t *testing.T) {
	t.Parallel()
	s := newShell(t, dbtest.URL(t))
	address := s.serve().address()
	s.ok("task", "create", "rust_e2e_linear/mathematical_sequence", "-i", `{"even_number":2}`, "--wait")
	for path, want := range map[string]string{
		"/": "<!", "/riverui": "<!", "/riverui/": "<!doctype html", "/riverui/jobs": "<!doctype html",
		"/health/live": "live\n", "/health/ready": "ready\n",
	} {
		code, text := get(t, address, path)
		require.Equal(t, http.StatusOK, code, path)
		require.Contains(t, strings.ToLower(text), want, path)
	}
	code, text := get(t, address, "/riverui/api/jobs?state=completed&limit=100")
	require.Equal(t, http.StatusOK, code)
	list := decodeText[struct {
		Data []struct {
			Kind  string   `json:"kind"`
			Queue string   `json:"queue"`
			Tags  []string `json:"tags"`
		} `json:"data"`
	}](t, text)
	kinds := make(map[string]int)
	for _, job := range list.Data {
		kinds[job.Kind+" on "+job.Queue]++
		require.Equal(t, []string{s.show("@last").ID.String()}, job.Tags, "a task's jobs are found by its id")
	}
	require.Equal(t, map[string]int{
		"tasker_enqueue on orchestration": 1, "tasker_execute on rust_e2e_linear": 4, "tasker_result on orchestration": 4,
	}, kinds)
	code, _ = get(t, address, "/nowhere")
	require.Equal(t, http.StatusNotFound, code)
}
