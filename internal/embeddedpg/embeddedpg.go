// Package embeddedpg runs a PostgreSQL server for people who have not set one up: a developer typing `tasker`, and the tests.
//
// A developer server keeps its data below a folder (".tasker"), listens on 127.0.0.1 with a random password, survives the death
// of the process that started it, and is adopted by the next one. An ephemeral server keeps everything in a temporary folder,
// trades durability for speed, and dies with the process that started it.
//
// What lies in the folder of a developer server:
//
//	dev.json       how to reach the server: port, password, processes, where the data is (mode 0600)
//	owner.lock     held by the tasker process that owns the server; the kernel frees it however that process ends
//	postgres.log   what the server printed
//	data/          the data directory, unless the server's account cannot reach the folder (see placeData)
//
// Nothing in this package ever deletes a data directory that a server has run on, ephemeral ones excepted.
package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

const (
	defaultDir          = ".tasker"
	devDatabase         = "tasker"
	devUser             = "tasker"
	maintenanceDatabase = "postgres" // exists in every server
	ephemeralUser       = "postgres"
)

var (
	// ErrNotRunning is returned by Find when no server runs for the folder.
	ErrNotRunning = errors.New("no embedded Postgres is running")
	// ErrAlreadyRunning is what every AlreadyRunningError unwraps to.
	ErrAlreadyRunning = errors.New("embedded Postgres is already running")
)

// AlreadyRunningError is returned by Start when another live process owns the folder's server.
type AlreadyRunningError struct {
	// URL reaches the running server. Empty, or not answering yet, while its owner is still starting it.
	URL string
	// OwnerPID is the owner's process id, 0 if not known.
	OwnerPID int
}

// Error names the owner.
func (e *AlreadyRunningError) Error() string {
	return fmt.Sprintf("%v, owned by process %d", ErrAlreadyRunning, e.OwnerPID)
}

// Unwrap returns ErrAlreadyRunning.
func (e *AlreadyRunningError) Unwrap() error { return ErrAlreadyRunning }

// Config says which server to start. The zero value is a developer server in ".tasker".
type Config struct {
	// Dir holds the state of a developer server. Created if missing. Default ".tasker". Not used when Ephemeral.
	Dir string
	// BinDir is the folder with initdb and postgres. Default: the newest installation of major version 14 or later that can be
	// found (of the data's own major version when there is data), else a download.
	BinDir string
	// Logger receives a few lines about what is being done. Default: discard.
	Logger *slog.Logger
	// Ephemeral asks for a throw-away server: no fsync, trust authentication, a unix socket in a temporary folder. Stop removes
	// it, and on Linux it dies with this process even when that is killed.
	Ephemeral bool
	// ListenTCP makes an ephemeral server listen on a free port of 127.0.0.1 too; see Server.TCPURL. A developer server always
	// listens there and nowhere else.
	ListenTCP bool
	// Parameters are further server settings, as for postgres -c. They win over this package's own.
	Parameters map[string]string
	// MaxConnections is the server's max_connections. Default 200, for an ephemeral server 300.
	MaxConnections int
}

func (c Config) withDefaults() Config {
	if c.Dir == "" {
		c.Dir = defaultDir
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 200
		if c.Ephemeral {
			c.MaxConnections = 300
		}
	}
	return c
}

// Server is a running PostgreSQL server. Its methods may be called from several goroutines.
type Server struct {
	cfg     Config
	bin     installation
	account account
	dir     string // state folder, absolute; for an ephemeral server its temporary folder
	data    string
	state   state      // what dev.json says; only kept in memory for an ephemeral server
	lock    *os.File   // owner.lock, held until Stop
	adopted bool       // found running rather than started
	version string     // as the server reports it
	mu      sync.Mutex // guards proc and stopped, and serializes Stop and CrashRestart
	proc    *process
	stopped bool
}

// Start starts the server that cfg describes, or adopts the developer server that a killed process left running, and returns
// once it accepts connections. A developer server that another live process owns is an *AlreadyRunningError. It waits at most
// 30 seconds for the server; the error then ends with the last lines of its log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := supported(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.Ephemeral {
		return startEphemeral(ctx, cfg)
	}
	return startDev(ctx, cfg)
}

// URL is the postgres:// URL of the server, password included: database "tasker" of a developer server, "postgres" of an
// ephemeral one (through its unix socket).
func (s *Server) URL() string { return s.state.URL }

// TCPURL is like URL but always goes through TCP. Empty for an ephemeral server started without ListenTCP.
func (s *Server) TCPURL() string {
	if s.cfg.Ephemeral && !s.cfg.ListenTCP {
		return ""
	}
	if s.cfg.Ephemeral {
		return tcpURL(ephemeralUser, "", s.state.Port, maintenanceDatabase)
	}
	return s.state.URL
}

// SocketPath is the unix socket of an ephemeral server; empty for a developer server, which has none.
func (s *Server) SocketPath() string {
	if !s.cfg.Ephemeral {
		return ""
	}
	return filepath.Join(s.dir, fmt.Sprintf(".s.PGSQL.%d", s.state.Port))
}

// PID is the process id of the postmaster; that of the last one after Stop.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.pid
}

// Version is the server's version as it reports it, such as "15.14".
func (s *Server) Version() string { return s.version }

// BinDir is the folder of the binaries the server runs from.
func (s *Server) BinDir() string { return s.bin.dir }

// DataDir is the server's data directory.
func (s *Server) DataDir() string { return s.data }

// Adopted reports whether Start found the server already running.
func (s *Server) Adopted() bool { return s.adopted }
