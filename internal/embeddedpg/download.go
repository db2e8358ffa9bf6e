package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// downloadMajor is what is downloaded when there is no data yet that asks for another version.
const downloadMajor = 17

var downloadVersions = map[int]embeddedpostgres.PostgresVersion{
	14: embeddedpostgres.V14, 15: embeddedpostgres.V15, 16: embeddedpostgres.V16, 17: embeddedpostgres.V17, 18: embeddedpostgres.V18,
}

var errWaysOut = errors.New("install the postgresql package, set DATABASE_URL to a server of yours, or pass --pg-bin with the " +
	"folder that holds initdb and postgres")

// download fetches binaries of that major version (0: any), once per user: later calls find them in the cache.
func download(ctx context.Context, logger *slog.Logger, major int, acct account) (installation, error) {
	if major == 0 {
		major = downloadMajor
	}
	version, ok := downloadVersions[major]
	if !ok {
		return installation{}, fmt.Errorf("no download of PostgreSQL %d is known: %w", major, errWaysOut)
	}
	cache, err := downloadCache(acct)
	if err != nil {
		return installation{}, fmt.Errorf("find a place for PostgreSQL binaries: %w: %w", err, errWaysOut)
	}
	home := filepath.Join(cache, string(version))
	if one, err := inspect(ctx, filepath.Join(home, "bin")); err == nil {
		return one, nil
	}
	logger.InfoContext(ctx, "no PostgreSQL found, downloading it", "version", string(version), "to", home)
	if err := fetchUntil(ctx, version, cache, home); err != nil {
		return installation{}, fmt.Errorf("download PostgreSQL %s: %w: %w", version, err, errWaysOut)
	}
	one, err := inspect(ctx, filepath.Join(home, "bin"))
	if err != nil {
		return installation{}, fmt.Errorf("use the downloaded PostgreSQL %s: %w: %w", version, err, errWaysOut)
	}
	return one, nil
}

// downloadCache is in the user's cache, or, for root, whose home is closed to the server's account, in a folder that is open.
func downloadCache(acct account) (string, error) {
	if acct.foreign {
		dir := filepath.Join(systemDataRoot, "postgres")
		return dir, makeOpen(dir)
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	dir := filepath.Join(user, "tasker", "postgres")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return dir, nil
}

// fetchUntil is fetch, given up on when ctx ends. The library can't be told to stop: it goes on in the background, and what it
// gets serves the next call.
func fetchUntil(ctx context.Context, version embeddedpostgres.PostgresVersion, cache, home string) error {
	done := make(chan error, 1)
	go func() { done <- fetch(version, cache, home) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the download: %w", ctx.Err())
	}
}

// fetch extracts the binaries to home, in one step, so that a half-done download is never used.
func fetch(version embeddedpostgres.PostgresVersion, cache, home string) (err error) {
	work, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return fmt.Errorf("make a work folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	extracted := filepath.Join(work, "extracted")
	startErr := extractOnly(version, work, extracted)
	if _, err := os.Stat(filepath.Join(extracted, "bin", "postgres")); err != nil {
		return errors.Join(startErr, err)
	}
	if err := os.Chmod(extracted, 0o755); err != nil { //nolint:gosec // the server's account must run what is in it
		return fmt.Errorf("open the binaries' folder: %w", err)
	}
	if err := os.Rename(extracted, home); err != nil {
		if _, statErr := os.Stat(filepath.Join(home, "bin", "postgres")); statErr == nil {
			return nil // another process was faster
		}
		return fmt.Errorf("put the binaries in place: %w", err)
	}
	return nil
}

// extractOnly makes the library download and extract. It offers that only as a part of starting a server, which we want to do
// ourselves (it cannot as root): a data directory that holds nothing but a version makes it skip initdb, and its pg_ctl give up
// at once. The error it returns is therefore expected, and tells something only if the binaries are missing afterwards.
func extractOnly(version embeddedpostgres.PostgresVersion, work, extracted string) error {
	data := filepath.Join(work, "no-data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return fmt.Errorf("make a work folder: %w", err)
	}
	name := filepath.Join(data, "PG_VERSION")
	if err := os.WriteFile(name, []byte(version[:2]), 0o600); err != nil {
		return fmt.Errorf("prepare the download: %w", err)
	}
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().Version(version).Logger(io.Discard).
		CachePath(work).BinariesPath(extracted).RuntimePath(filepath.Join(work, "run")).DataPath(data).Port(0))
	err := server.Start()
	if err == nil {
		err = server.Stop()
	}
	return err //nolint:wrapcheck // the caller says what was attempted
}
