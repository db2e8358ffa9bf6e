package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"riverqueue.com/riverui"

	"github.com/tasker-systems/tasker-go"
)

const uiPrefix = "/riverui"

// status answers health checks from the first moment on, and serves River UI once there is a client.
type status struct {
	pool atomic.Pointer[pgxpool.Pool]
	ui   atomic.Pointer[http.Handler]
	stop context.CancelFunc
	// metrics is nil where they are not read here.
	metrics http.Handler
}

// up makes the process ready.
func (s *status) up(pool *pgxpool.Pool, client *tasker.Client, logger *slog.Logger) error {
	ui, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(client.River(), nil), Logger: logger, Prefix: uiPrefix,
	})
	if err != nil {
		return fmt.Errorf("make River UI: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := ui.Start(ctx); err != nil {
		cancel()
		return fmt.Errorf("start River UI: %w", err)
	}
	s.stop = cancel
	var handler http.Handler = ui
	s.ui.Store(&handler)
	s.pool.Store(pool)
	return nil
}

// down makes the process unready, so that no new traffic comes while it drains.
func (s *status) down() {
	s.pool.Store(nil)
	s.stop()
}

func (s *status) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "live") })
	mux.HandleFunc("GET /health/ready", s.ready)
	if s.metrics != nil {
		mux.Handle("GET /metrics", s.metrics)
	}
	mux.HandleFunc(uiPrefix+"/", func(w http.ResponseWriter, r *http.Request) {
		ui := s.ui.Load()
		if ui == nil {
			answer(w, http.StatusServiceUnavailable, "starting")
			return
		}
		(*ui).ServeHTTP(w, r)
	})
	mux.Handle("GET "+uiPrefix, http.RedirectHandler(uiPrefix+"/", http.StatusMovedPermanently))
	mux.Handle("GET /{$}", http.RedirectHandler(uiPrefix+"/", http.StatusFound))
	return mux
}

// ready is 200 while the process works and the database answers.
func (s *status) ready(w http.ResponseWriter, r *http.Request) {
	pool := s.pool.Load()
	if pool == nil {
		answer(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		answer(w, http.StatusServiceUnavailable, "database does not answer")
		return
	}
	answer(w, http.StatusOK, "ready")
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}

// newHealth asks a running process, for images that have no other client.
func newHealth() *cobra.Command {
	return &cobra.Command{
		Use: "health", Short: "Ask the tasker on this host whether it is ready", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, port, err := net.SplitHostPort(env("TASKER_LISTEN", "127.0.0.1:8484"))
			if err != nil {
				return usageError{fmt.Errorf("TASKER_LISTEN: %w", err)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/health/ready", nil)
			if err != nil {
				return fmt.Errorf("make request: %w", err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return fmt.Errorf("ask for health: %w", err)
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("not ready: %s", response.Status)
			}
			return nil
		},
	}
}
