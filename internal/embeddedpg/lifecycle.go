package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	// fastStopTimeout is how long a fast shutdown, which writes a checkpoint, may take before it becomes an immediate one. The
	// data survives either way; the next start then replays the log.
	fastStopTimeout      = 30 * time.Second
	immediateStopTimeout = 10 * time.Second
)

// Stop shuts the server down, an adopted one too, rolling back what is in progress, and returns once it is gone. When ctx ends
// or 30 seconds pass first, the shutdown becomes an immediate one, which loses no committed data. Stopping twice is not an error.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if err := s.stopProcess(ctx); err != nil {
		return fmt.Errorf("stop Postgres (process %d): %w", s.proc.pid, err)
	}
	s.stopped = true
	return s.release()
}

func (s *Server) stopProcess(ctx context.Context) error {
	if !s.cfg.Ephemeral { // nobody will read an ephemeral server's data again: don't wait for a checkpoint
		if err := s.proc.signal(signalFast); err != nil {
			return err
		}
		waitCtx, cancel := context.WithTimeout(ctx, fastStopTimeout)
		err := s.proc.wait(waitCtx)
		cancel()
		if err == nil {
			return nil
		}
		s.cfg.Logger.WarnContext(ctx, "Postgres is slow to stop, stopping it immediately", "pid", s.proc.pid)
	}
	return s.stopImmediately(ctx)
}

func (s *Server) stopImmediately(ctx context.Context) error {
	if err := s.proc.signal(signalImmediate); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), immediateStopTimeout)
	defer cancel()
	return s.proc.wait(ctx)
}

// release gives up what the server held outside its process.
func (s *Server) release() error {
	var err error
	if s.cfg.Ephemeral {
		err = os.RemoveAll(s.dir)
	} else {
		s.state.OwnerPID, s.state.ServerPID = 0, 0
		err = s.state.save(s.dir)
	}
	return errors.Join(err, unlock(s.lock))
}

// CrashRestart makes the server stop at once without a checkpoint, as after a power cut (all connections break, prepared
// changes are replayed or lost as the log says), and starts it again on the same data, port and socket. URL stays valid. After
// an error the server may be down; Stop still cleans up.
func (s *Server) CrashRestart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restart Postgres: it has been stopped")
	}
	if err := s.stopImmediately(ctx); err != nil {
		return fmt.Errorf("crash Postgres (process %d): %w", s.proc.pid, err)
	}
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("restart Postgres: %w", err)
	}
	if s.cfg.Ephemeral {
		return nil
	}
	s.state.ServerPID = s.proc.pid
	return s.state.save(s.dir)
}

// launch runs the postgres binary as a child, sets s.proc and waits until it accepts connections. A server that does not get
// that far is stopped again.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close()
	offset, err := logSize(log)
	if err != nil {
		return err
	}
	cmd := s.account.command(context.WithoutCancel(ctx), filepath.Join(s.bin.dir, "postgres"), s.serverArgs()...)
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd, s.cfg.Ephemeral)
	if err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	s.proc = proc
	if err := s.waitReady(ctx); err != nil {
		stopErr := s.stopImmediately(ctx)
		return errors.Join(fmt.Errorf("%w\n%s", err, logTail(s.logPath(), offset)), stopErr)
	}
	return nil
}

func (s *Server) logPath() string { return filepath.Join(s.dir, "postgres.log") }

func (s *Server) serverArgs() []string {
	settings := map[string]string{
		"max_connections":         strconv.Itoa(s.cfg.MaxConnections),
		"shared_buffers":          "128MB",
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"port":                    strconv.Itoa(s.state.Port),
		"log_line_prefix":         "%m [%p] ",
	}
	if s.cfg.Ephemeral {
		settings["unix_socket_directories"] = s.dir
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
		settings["wal_level"] = "minimal"
		settings["max_wal_senders"] = "0"
		settings["max_wal_size"] = "256MB" // the default for 1 MB segments would make busy tests checkpoint all the time
		if !s.cfg.ListenTCP {
			settings["listen_addresses"] = ""
		}
	}
	maps.Copy(settings, s.cfg.Parameters)
	args := []string{"-D", s.data}
	for name, value := range settings {
		args = append(args, "-c"+name+"="+value)
	}
	sort.Strings(args[2:])
	return args
}

func logSize(log *os.File) (int64, error) {
	info, err := log.Stat()
	if err != nil {
		return 0, fmt.Errorf("look at the server's log: %w", err)
	}
	return info.Size(), nil
}

// logTail returns the last lines printed since the log was offset bytes long.
func logTail(path string, offset int64) string {
	const lines = 15
	text, err := os.ReadFile(path)
	if err != nil {
		return "(its log cannot be read: " + err.Error() + ")"
	}
	if offset > int64(len(text)) {
		offset = 0
	}
	all := strings.Split(strings.TrimSpace(string(text[offset:])), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
