package embeddedpg

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	stateFile = "dev.json"
	lockFile  = "owner.lock"
)

// state is the content of dev.json.
type state struct {
	URL       string `json:"url"`
	Port      int    `json:"port"` // kept between runs, so that a URL pasted somewhere keeps working
	Password  string `json:"password"`
	DataDir   string `json:"data_dir"`
	BinDir    string `json:"bin_dir"`
	Version   string `json:"version"`
	ServerPID int    `json:"server_pid"` // 0 after a clean stop
	OwnerPID  int    `json:"owner_pid"`  // the tasker process; 0 after a clean stop
}

// loadState reads dev.json; a missing one is the zero state.
func loadState(dir string) (state, error) {
	var st state
	path := filepath.Join(dir, stateFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(text, &st); err != nil {
		return st, fmt.Errorf("parse %s (removing it is safe, the data stays): %w", path, err)
	}
	return st, nil
}

// save replaces dev.json in one step, so that a reader in another terminal never sees half of it.
func (st state) save(dir string) error {
	text, err := json.MarshalIndent(st, "", "  ") //nolint:gosec // the file is the password's place, and for its owner alone
	if err != nil {
		return fmt.Errorf("encode %s: %w", stateFile, err)
	}
	temp, err := os.CreateTemp(dir, stateFile+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("save %s: %w", stateFile, err)
	}
	_, err = temp.Write(append(text, '\n'))
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), filepath.Join(dir, stateFile))
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", stateFile, errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

// newPassword needs no escaping in a URL, in SQL, or in a shell.
func newPassword() string { return rand.Text() }

// Find returns the URL of the developer server of the folder, for a command in a second terminal. It makes sure that the server
// is alive and accepts the password; ErrNotRunning otherwise. dir "" means ".tasker". It waits at most 5 seconds.
func Find(dir string) (string, error) {
	dir, err := filepath.Abs(Config{Dir: dir}.withDefaults().Dir)
	if err != nil {
		return "", fmt.Errorf("resolve the state folder: %w", err)
	}
	st, err := loadState(dir)
	if err != nil {
		return "", err
	}
	if st.URL == "" || st.DataDir == "" {
		return "", fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	if pid := postmasterPID(st.DataDir); pid == 0 || !isPostmaster(pid, st.DataDir) {
		return "", fmt.Errorf("%w in %s", ErrNotRunning, dir)
	}
	if _, err := identify(context.Background(), st.URL, st.DataDir); err != nil {
		return "", fmt.Errorf("%w in %s: %w", ErrNotRunning, dir, err)
	}
	return st.URL, nil
}

// postmasterPID reads the process id that a server left in its data directory; 0 if there is none.
func postmasterPID(data string) int {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}
