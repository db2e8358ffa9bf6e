package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	ephemeralPrefix = "taskerpg-"
	// socketPathLimit stays below the smallest sun_path of the supported systems, 104 bytes.
	socketPathLimit = 100
	// sweepAge protects a folder whose owner has made but not yet locked it.
	sweepAge = time.Minute
	// socketPort only names the socket when nothing listens on TCP.
	socketPort = 5432
)

func startEphemeral(ctx context.Context, cfg Config) (_ *Server, err error) {
	s := &Server{cfg: cfg}
	if s.account, err = serverAccount(); err != nil {
		return nil, err
	}
	if s.bin, err = cfg.findInstallation(ctx, 0, s.account); err != nil {
		return nil, err
	}
	if err := s.makeTempDir(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	s.data = filepath.Join(s.dir, "data")
	if err := s.initData(ctx); err != nil {
		return nil, err
	}
	return s, s.launchOnFreePort(ctx)
}

// launchOnFreePort tries again where another process took the port that was free a moment ago.
func (s *Server) launchOnFreePort(ctx context.Context) (err error) {
	for attempt := 1; ; attempt++ {
		s.state.Port = socketPort
		if s.cfg.ListenTCP {
			if s.state.Port, err = freePort(ctx, 0); err != nil {
				return err
			}
		}
		s.state.URL = socketURL(ephemeralUser, s.dir, s.state.Port, maintenanceDatabase)
		if err = s.launch(ctx); err == nil {
			return nil
		}
		if attempt == portAttempts || !s.cfg.ListenTCP || !errors.Is(err, errExited) {
			return fmt.Errorf("start Postgres: %w", err)
		}
	}
}

// makeTempDir makes the server's folder, in /tmp when the usual place is too deep for a socket or closed to the account.
func (s *Server) makeTempDir(ctx context.Context) error {
	var problems error
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		sweep(parent)
		dir, err := os.MkdirTemp(parent, ephemeralPrefix)
		if err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		s.dir = dir
		if err = s.claimTempDir(ctx); err == nil {
			return nil
		}
		problems = errors.Join(problems, err, unlock(s.lock), os.RemoveAll(dir))
	}
	return fmt.Errorf("make a temporary folder for Postgres: %w", problems)
}

func (s *Server) claimTempDir(ctx context.Context) error {
	if len(filepath.Join(s.dir, ".s.PGSQL.65535")) >= socketPathLimit {
		return fmt.Errorf("%s is too long for a unix socket", s.dir)
	}
	var err error
	if s.lock, _, err = tryLock(filepath.Join(s.dir, lockFile)); err != nil {
		return err
	}
	if err := s.account.give(s.dir); err != nil {
		return err
	}
	if !s.account.reaches(ctx, s.bin, s.dir) {
		return fmt.Errorf("user id %d, which the server has to run as, cannot reach %s or run %s", s.account.uid, s.dir, s.bin.dir)
	}
	return nil
}

// sweep removes what killed test processes left in parent: folders of ours whose lock is free. It is a courtesy, so problems
// (another user's folder) are passed over.
func sweep(parent string) {
	dirs, err := filepath.Glob(filepath.Join(parent, ephemeralPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(filepath.Join(dir, lockFile))
		if err != nil || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		lock, held, err := tryLock(filepath.Join(dir, lockFile))
		if err != nil || held {
			continue
		}
		if pid := postmasterPID(filepath.Join(dir, "data")); pid == 0 || !processAlive(pid) {
			_ = os.RemoveAll(dir)
		}
		_ = unlock(lock) //nolint:errcheck // the lock goes with the descriptor anyway
	}
}
