package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// portAttempts is how often a port may be lost to another process between probing it and the server's listening on it.
const portAttempts = 3

func startDev(ctx context.Context, cfg Config) (_ *Server, err error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolve the state folder: %w", err)
	}
	if err := makeStateDir(dir); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, dir: dir}
	if err := s.own(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unlock(s.lock))
		}
	}()
	if s.data, err = existingData(dir, s.state); err != nil {
		return nil, err
	}
	if s.data != "" {
		adopted, err := s.adopt(ctx)
		if err != nil {
			return nil, err
		}
		if adopted {
			return s, nil
		}
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if err := s.bringUp(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// makeStateDir creates the folder and keeps it, with its password, out of version control.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // root's server runs as another user and passes through
		return fmt.Errorf("make the state folder: %w", err)
	}
	ignore := filepath.Join(dir, ".gitignore")
	if _, err := os.Stat(ignore); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(ignore, []byte("*\n"), 0o644); err != nil { //nolint:gosec // nothing secret in it
		return fmt.Errorf("keep the state folder out of version control: %w", err)
	}
	return nil
}

// own takes the folder's lock and reads its state, or says which process has it.
func (s *Server) own(ctx context.Context) error {
	lock, held, lockErr := tryLock(filepath.Join(s.dir, lockFile))
	st, err := loadState(s.dir)
	if err != nil {
		return errors.Join(err, unlock(lock))
	}
	if lockErr != nil {
		// A file system without locks: the recorded process id has to do.
		s.cfg.Logger.WarnContext(ctx, "cannot lock the state folder", "error", lockErr)
		held = st.OwnerPID != 0 && st.OwnerPID != os.Getpid() && processAlive(st.OwnerPID)
	}
	if held {
		if st.OwnerPID == 0 { // the last clean stop's state: the owner has only just come
			st.URL = ""
		}
		return &AlreadyRunningError{URL: st.URL, OwnerPID: st.OwnerPID}
	}
	s.lock, s.state = lock, st
	return nil
}

// adopt takes over the server that a killed process left running on s.data, if there is one.
func (s *Server) adopt(ctx context.Context) (bool, error) {
	pid := postmasterPID(s.data)
	if pid == 0 {
		return false, nil
	}
	if !isPostmaster(pid, s.data) {
		return false, s.setAsideStalePID(pid)
	}
	s.proc = &process{pid: pid, data: s.data}
	if s.state.URL == "" {
		return false, fmt.Errorf("process %d serves %s, and the password to it went with %s: stop it with kill -INT %d",
			pid, s.data, stateFile, pid)
	}
	if err := s.waitReady(ctx); err != nil {
		if !processAlive(pid) {
			return false, nil // it was shutting down
		}
		return false, fmt.Errorf("adopt the server left running as process %d (stop it with kill -INT %d): %w", pid, pid, err)
	}
	var err error
	if s.account, err = accountOf(s.data); err != nil {
		return false, err
	}
	if s.bin, err = inspect(ctx, s.state.BinDir); err != nil {
		s.cfg.Logger.WarnContext(ctx, "the binaries of the running server are gone", "error", err)
	}
	s.adopted = true
	s.cfg.Logger.InfoContext(ctx, "adopted the Postgres left running", "pid", pid, "data", s.data)
	if err := s.ensureDatabase(ctx); err != nil {
		return false, err
	}
	return true, s.recordRunning()
}

// setAsideStalePID renames a postmaster.pid whose process id now belongs to something else: the server would take that for
// another server. Its other safeguard, the shared memory of surviving backends, stays in force.
func (s *Server) setAsideStalePID(pid int) error {
	if !pidTaken(pid) {
		return nil // the server sees that by itself
	}
	path := filepath.Join(s.data, "postmaster.pid")
	if err := os.Rename(path, path+".stale"); err != nil {
		return fmt.Errorf("set a stale postmaster.pid aside: %w", err)
	}
	return nil
}

// prepare finds account, binaries and place, and makes the data directory unless there is one.
func (s *Server) prepare(ctx context.Context) error {
	var err error
	if s.data != "" {
		return s.prepareExisting(ctx)
	}
	if s.account, err = serverAccount(); err != nil {
		return err
	}
	if s.bin, err = s.cfg.findInstallation(ctx, 0, s.account); err != nil {
		return err
	}
	if s.data, err = placeData(ctx, s.dir, s.bin, s.account); err != nil {
		return err
	}
	s.state = state{Port: s.state.Port, Password: newPassword(), DataDir: s.data}
	if err := s.state.save(s.dir); err != nil { // before initdb: the password must not be lost once it is in force
		return err
	}
	s.cfg.Logger.InfoContext(ctx, "creating a Postgres data directory", "data", s.data, "binaries", s.bin.dir)
	return s.initData(ctx)
}

func (s *Server) prepareExisting(ctx context.Context) error {
	var err error
	if s.account, err = accountOf(s.data); err != nil {
		return err
	}
	major, err := majorOf(s.data)
	if err != nil {
		return err
	}
	if s.bin, err = s.cfg.findInstallation(ctx, major, s.account); err != nil {
		return err
	}
	if !s.account.reaches(ctx, s.bin, filepath.Dir(s.data)) {
		return fmt.Errorf("user id %d, which owns %s, cannot reach it or cannot run %s", s.account.uid, s.data, s.bin.dir)
	}
	s.state.DataDir = s.data
	if s.state.Password != "" {
		return nil
	}
	s.state.Password = newPassword()
	return s.resetPassword(ctx)
}

// bringUp launches the server on the port of last time or, when that is taken, another one.
func (s *Server) bringUp(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		port, err := freePort(ctx, s.state.Port)
		if err != nil {
			return err
		}
		s.state.Port = port
		s.state.URL = tcpURL(devUser, s.state.Password, port, devDatabase)
		s.state.BinDir, s.state.OwnerPID = s.bin.dir, os.Getpid()
		if err := s.state.save(s.dir); err != nil { // before launching: should we be killed now, the next run can adopt it
			return err
		}
		err = s.launch(ctx)
		if err == nil {
			break
		}
		if attempt == portAttempts || !strings.Contains(err.Error(), "could not create any TCP/IP sockets") {
			return fmt.Errorf("start Postgres: %w", err)
		}
	}
	if err := s.ensureDatabase(ctx); err != nil {
		return errors.Join(err, s.stopImmediately(ctx))
	}
	s.cfg.Logger.InfoContext(ctx, "started Postgres", "pid", s.proc.pid, "version", s.version, "port", s.state.Port)
	return s.recordRunning()
}

func (s *Server) recordRunning() error {
	s.state.DataDir, s.state.Version = s.data, s.version
	s.state.ServerPID, s.state.OwnerPID = s.proc.pid, os.Getpid()
	return s.state.save(s.dir)
}
