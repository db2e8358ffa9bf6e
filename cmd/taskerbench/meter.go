package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// meter reads what a stretch of work cost, outside of what it measures.
type meter struct {
	pool       *pgxpool.Pool
	postmaster int
}

// reading is one look at the counters.
type reading struct {
	at       time.Time
	process  time.Duration
	postgres time.Duration
	commits  int64
	wal      int64
}

// clockTicks is the kernel's USER_HZ, which Linux fixes at 100.
const clockTicks = 100

func (m *meter) read(ctx context.Context) (reading, error) {
	r := reading{at: time.Now()}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return r, fmt.Errorf("read own CPU: %w", err)
	}
	r.process = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	r.postgres = m.serverCPU()
	err := m.pool.QueryRow(ctx, `SELECT xact_commit, (pg_current_wal_insert_lsn() - '0/0')::bigint
	    FROM pg_stat_database WHERE datname = current_database()`).Scan(&r.commits, &r.wal)
	if err != nil {
		return r, fmt.Errorf("read counters: %w", err)
	}
	return r, nil
}

// serverCPU sums the server's processes; those that ended count through their parent.
func (m *meter) serverCPU() time.Duration {
	if m.postmaster == 0 {
		return 0
	}
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	ticks := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := bytes.Cut(text, []byte(") "))
		fields := strings.Fields(string(rest))
		pid := number(filepath.Base(filepath.Dir(path)))
		if len(fields) < 15 || (fields[1] != strconv.Itoa(m.postmaster) && pid != m.postmaster) {
			continue
		}
		last := 13 // utime and stime
		if pid == m.postmaster {
			last = 15 // and those of children that ended
		}
		for _, field := range fields[11:last] {
			ticks += number(field)
		}
	}
	return time.Duration(ticks) * time.Second / clockTicks
}

// number reads what the kernel wrote; anything else is 0.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// cost is what one step cost, on average.
type cost struct {
	postgres, process float64 // CPU milliseconds
	commits, wal      float64
}

func (m *meter) since(ctx context.Context, before reading, steps int) (cost, error) {
	now, err := m.read(ctx)
	if err != nil {
		return cost{}, err
	}
	n := float64(steps)
	return cost{
		postgres: float64((now.postgres - before.postgres).Microseconds()) / 1000 / n,
		process:  float64((now.process - before.process).Microseconds()) / 1000 / n,
		commits:  float64(now.commits-before.commits) / n,
		wal:      float64(now.wal-before.wal) / n,
	}, nil
}
