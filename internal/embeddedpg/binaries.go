package embeddedpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

const oldestMajor = 14

// installation is a folder with PostgreSQL's server binaries.
type installation struct {
	dir    string
	major  int
	minor  int
	script bool // its postgres is a shell script, which may change user or fork; only used when there is nothing else
}

// globs are the places where packages put the binaries.
var globs = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // Red Hat
	"/usr/libexec/postgresql*",  // Alpine
	"/usr/local/pgsql/bin",      // built from source
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// findInstallation returns the binaries to use: those in binDir if given, else the newest found, else a download. major 0 means
// any from 14 on; otherwise it is the version of the data, and no other will do.
func (c Config) findInstallation(ctx context.Context, major int, acct account) (installation, error) {
	if c.BinDir != "" {
		return chosenInstallation(ctx, c.BinDir, major)
	}
	found := scan(ctx, candidates(ctx))
	var best installation
	for _, one := range found {
		if (major == 0 || one.major == major) && one.better(best) {
			best = one
		}
	}
	if best.dir != "" {
		return best, nil
	}
	best, err := download(ctx, c.Logger, major, acct)
	if err != nil && major != 0 && len(found) > 0 {
		return installation{}, fmt.Errorf("the data needs PostgreSQL %d, and only %s found: %w", major, describe(found), err)
	}
	return best, err
}

func chosenInstallation(ctx context.Context, binDir string, major int) (installation, error) {
	dir, err := filepath.Abs(binDir)
	if err != nil {
		return installation{}, fmt.Errorf("resolve %s: %w", binDir, err)
	}
	one, err := inspect(ctx, dir)
	switch {
	case err != nil:
		return installation{}, err
	case one.major < oldestMajor:
		return installation{}, fmt.Errorf("%s holds PostgreSQL %d; %d or later is needed", dir, one.major, oldestMajor)
	case major != 0 && one.major != major:
		return installation{}, fmt.Errorf("the data was made by PostgreSQL %d, and %s holds %d: use the binaries of version %d, or "+
			"another state folder (the data is left as it is)", major, dir, one.major, major)
	}
	return one, nil
}

// better orders by version, real binaries before scripts.
func (i installation) better(than installation) bool {
	switch {
	case than.dir == "":
		return true
	case i.script != than.script:
		return than.script
	case i.major != than.major:
		return i.major > than.major
	}
	return i.minor > than.minor
}

// candidates lists folders that may hold binaries, without repetition.
func candidates(ctx context.Context) []string {
	var dirs []string
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} { // /usr/local/bin may link to only some of them
		for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
			if path, err := filepath.EvalSymlinks(filepath.Join(folder, name)); err == nil {
				dirs = append(dirs, filepath.Dir(path))
			}
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range globs {
		matches, err := filepath.Glob(pattern)
		if err == nil { // only a malformed pattern is an error
			dirs = append(dirs, matches...)
		}
	}
	seen := map[string]bool{}
	var unique []string
	for _, dir := range dirs {
		if target, err := filepath.EvalSymlinks(dir); err == nil && filepath.IsAbs(target) && !seen[target] {
			seen[target] = true
			unique = append(unique, target)
		}
	}
	return unique
}

// scan keeps the folders that hold a usable server.
func scan(ctx context.Context, dirs []string) []installation {
	var found []installation
	for _, dir := range dirs {
		if one, err := inspect(ctx, dir); err == nil && one.major >= oldestMajor {
			found = append(found, one)
		}
	}
	return found
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// inspect makes sure that dir holds initdb and a postgres that runs, and asks for its version.
func inspect(ctx context.Context, dir string) (installation, error) {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return installation{}, fmt.Errorf("%s holds no program %s", dir, name)
		}
	}
	postgres := filepath.Join(dir, "postgres")
	out, err := exec.CommandContext(ctx, postgres, "--version").CombinedOutput()
	if err != nil {
		return installation{}, fmt.Errorf("run %s --version: %w: %s", postgres, err, strings.TrimSpace(string(out)))
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return installation{}, fmt.Errorf("read the version of %s: it prints %q", postgres, out)
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return installation{}, fmt.Errorf("read the version of %s: %w", postgres, err)
	}
	minor, err := strconv.Atoi(string(match[2]))
	if err != nil { // absent in a beta
		minor = 0
	}
	return installation{dir: dir, major: major, minor: minor, script: isScript(postgres)}, nil
}

func isScript(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	start := make([]byte, 2)
	n, err := file.Read(start)
	return err == nil && string(start[:n]) == "#!"
}

func describe(found []installation) string {
	var parts []string
	for _, one := range found {
		parts = append(parts, fmt.Sprintf("%d (%s)", one.major, one.dir))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}
