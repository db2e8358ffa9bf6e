package embeddedpg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// systemDataRoot is where root's servers keep their data when the server's account cannot reach the state folder.
const systemDataRoot = "/var/lib/tasker"

// account is the user that the server runs as.
type account struct {
	uid, gid int
	foreign  bool // not this process's own: we are root, which PostgreSQL refuses to run as
}

// serverAccount is the user for new data: ourselves, but for root "postgres", else "nobody".
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(found.Uid)
		gid, gidErr := strconv.Atoi(found.Gid)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return account{uid: uid, gid: gid, foreign: true}, nil
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as: " +
		"run tasker as a normal user, or set DATABASE_URL")
}

// accountOf is the user for data that exists: whoever owns it.
func accountOf(data string) (account, error) {
	uid, gid, err := ownerOf(data)
	if err != nil {
		return account{}, err
	}
	switch self := os.Geteuid(); {
	case uid == self && uid != 0:
		return account{uid: uid, gid: os.Getegid()}, nil
	case self == 0 && uid != 0:
		return account{uid: uid, gid: gid, foreign: true}, nil
	default:
		return account{}, fmt.Errorf("data directory %s belongs to user id %d, and we are %d: run as that user, or set DATABASE_URL",
			data, uid, self)
	}
}

// give makes path the account's own.
func (a account) give(path string) error {
	if !a.foreign {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to the server's account: %w", path, err)
	}
	return nil
}

// reaches reports whether the account can use paths below dir. Asking the kernel, by running a program there, also gets access
// lists and mount options right.
func (a account) reaches(ctx context.Context, bin installation, dir string) bool {
	if !a.foreign {
		return true
	}
	cmd := a.command(ctx, filepath.Join(bin.dir, "postgres"), "--version")
	cmd.Dir = dir
	return cmd.Run() == nil
}

// existingData returns the data directory that the state folder already has, "" if none.
func existingData(dir string, st state) (string, error) {
	for _, data := range []string{filepath.Join(dir, "data"), systemData(dir)} {
		if initialized(data) {
			return data, nil
		}
	}
	if st.DataDir != "" && initialized(st.DataDir) {
		// A folder that was moved or copied, with data outside it. Guessing wrong would share or hide somebody's data.
		return "", fmt.Errorf("%s says that the data is in %s, which was made for another folder: set DATABASE_URL, or remove "+
			"dev.json to start with an empty database", filepath.Join(dir, stateFile), st.DataDir)
	}
	return "", nil
}

// placeData chooses where new data goes: into the state folder, or, if the server's account cannot reach that (a folder below
// /root, say), into /var/lib/tasker/<hash of the folder>.
func placeData(ctx context.Context, dir string, bin installation, acct account) (string, error) {
	if acct.reaches(ctx, bin, dir) {
		return filepath.Join(dir, "data"), nil
	}
	data := systemData(dir)
	if err := makeOpen(filepath.Dir(data)); err != nil {
		return "", fmt.Errorf("make a folder for the data: %w", err)
	}
	if !acct.reaches(ctx, bin, filepath.Dir(data)) {
		return "", fmt.Errorf("user id %d, which the server has to run as, reaches neither %s nor %s (or cannot run %s): "+
			"set DATABASE_URL", acct.uid, dir, filepath.Dir(data), filepath.Join(bin.dir, "postgres"))
	}
	return data, nil
}

// makeOpen makes a folder below systemDataRoot that the server's account can pass through, whatever our umask.
func makeOpen(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // that is the point
		return err //nolint:wrapcheck // the caller says what for
	}
	for _, one := range []string{systemDataRoot, dir} {
		if err := os.Chmod(one, 0o755); err != nil { //nolint:gosec // that is the point
			return err //nolint:wrapcheck // the caller says what for
		}
	}
	return nil
}

func systemData(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(systemDataRoot, hex.EncodeToString(sum[:8]), "data")
}

func initialized(data string) bool {
	_, err := os.Stat(filepath.Join(data, "PG_VERSION"))
	return err == nil || errors.Is(err, fs.ErrPermission) // closed to us is not the same as absent
}
