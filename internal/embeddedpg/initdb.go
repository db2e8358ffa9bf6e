package embeddedpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// majorOf reads the major version that made the data directory.
func majorOf(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("read the data's version: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the data's version in %s: %w", data, err)
	}
	return major, nil
}

// initData makes s.data. It works in a folder next to it and renames that when it is complete, so that a data directory either
// is usable or does not exist; leftovers of an initdb that was killed have never held anything.
func (s *Server) initData(ctx context.Context) error {
	building := s.data + ".init"
	if err := os.RemoveAll(building); err != nil {
		return fmt.Errorf("remove an unfinished data directory: %w", err)
	}
	if err := os.Mkdir(building, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if err := s.account.give(building); err != nil {
		return err
	}
	if err := s.runInitdb(ctx, building); err != nil {
		return err
	}
	if err := os.Rename(building, s.data); err != nil {
		return fmt.Errorf("put the data directory in place: %w", err)
	}
	return nil
}

func (s *Server) runInitdb(ctx context.Context, data string) (err error) {
	args := []string{"-D", data, "--encoding=UTF8", "--locale=C"} // C is the one locale every system has
	if s.cfg.Ephemeral {
		args = append(args, "--username="+ephemeralUser, "--auth=trust", "--no-sync", "--wal-segsize=1")
	} else {
		file, fileErr := s.passwordFile(filepath.Dir(data))
		if fileErr != nil {
			return fileErr
		}
		defer func() { err = errors.Join(err, os.Remove(file)) }()
		args = append(args, "--username="+devUser, "--auth=scram-sha-256", "--pwfile="+file)
	}
	cmd := s.account.command(ctx, filepath.Join(s.bin.dir, "initdb"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", cmd.Path, err, bytes.TrimSpace(out))
	}
	return nil
}

// passwordFile hands the password to initdb, which runs as another user and takes it from a file only.
func (s *Server) passwordFile(dir string) (string, error) {
	file, err := os.CreateTemp(dir, "password.*")
	if err != nil {
		return "", fmt.Errorf("write the password for initdb: %w", err)
	}
	_, err = file.WriteString(s.state.Password + "\n")
	if err = errors.Join(err, file.Close()); err == nil {
		err = s.account.give(file.Name())
	}
	if err != nil {
		return "", fmt.Errorf("write the password for initdb: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return file.Name(), nil
}

// resetPassword sets the password of data whose dev.json is lost, through the server's single-user mode, which asks for none.
func (s *Server) resetPassword(ctx context.Context) error {
	cmd := s.account.command(ctx, filepath.Join(s.bin.dir, "postgres"), "--single", "-D", s.data, maintenanceDatabase)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'\n", devUser, s.state.Password))
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("ERROR:")) {
		return fmt.Errorf("set a new password (the old one went with %s): %w\n%s", stateFile, err, bytes.TrimSpace(out))
	}
	return nil
}
