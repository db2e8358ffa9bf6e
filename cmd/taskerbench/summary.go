package main

import (
	"fmt"
	"slices"
)

// summary collects what the rounds cost.
type summary []*series

// series are the lines of a workload in one mode, a line for each round.
type series struct {
	workload, mode string
	lines          []line
}

func (s *summary) add(workload, mode string, l line) {
	for _, known := range *s {
		if known.workload == workload && known.mode == mode {
			known.lines = append(known.lines, l)
			return
		}
	}
	*s = append(*s, &series{workload, mode, []line{l}})
}

// print prints medians, and where a workload ran in several modes how each of them compares with the first mode in the same round.
func (s *summary) print(first string) {
	fmt.Println("\nMedians. CPU is that of Postgres and process together; its ratio is taken in each round.")
	fmt.Printf("%-18s%-10s%9s%8s%8s%9s%12s  %s\n", "workload", "telemetry", "PG ms", "proc ms", "CPU ms", "p99 ms", "CPU ratio", "range")
	bases := make(map[string]*series)
	for _, one := range *s {
		if one.mode == first {
			bases[one.workload] = one
		}
	}
	for _, one := range *s {
		base := bases[one.workload]
		ratios := make([]float64, len(one.lines))
		for i := range ratios {
			ratios[i] = one.lines[i].cpu() / base.lines[i].cpu()
		}
		fmt.Printf("%-18s%-10s%9.3f%8.3f%8.3f%9.1f%12.3f  %.3f to %.3f\n", one.workload, one.mode,
			one.median(func(l *line) float64 { return l.postgres }), one.median(func(l *line) float64 { return l.process }),
			one.median((*line).cpu), one.median(func(l *line) float64 { return l.p99 }), median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
}

func (s *series) median(of func(*line) float64) float64 {
	values := make([]float64, len(s.lines))
	for i := range s.lines {
		values[i] = of(&s.lines[i])
	}
	return median(values)
}

// median sorts a copy and takes the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
