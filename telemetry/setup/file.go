package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// file is what telemetry.toml may say.
type file struct {
	Telemetry struct {
		Enabled       bool       `toml:"enabled"`
		ServiceName   string     `toml:"service_name"`
		SampleRate    ratio      `toml:"sample_rate"`
		OpenTelemetry fileExport `toml:"opentelemetry"`
		Metrics       struct {
			CorrelationIDLabel  telemetry.LabelMode `toml:"correlation_id_label"`
			CorrelationIDBudget count               `toml:"correlation_id_budget"`
			Prometheus          bool                `toml:"prometheus"`
		} `toml:"metrics"`
		Traces struct {
			MaxParentAge duration `toml:"max_parent_age"`
		} `toml:"traces"`
		Logs struct {
			Enabled bool `toml:"enabled"`
		} `toml:"logs"`
	} `toml:"telemetry"`
}

type fileExport struct {
	Enabled  bool         `toml:"enabled"`
	Endpoint fileEndpoint `toml:"endpoint"`
	Protocol fileProtocol `toml:"protocol"`
}

// newFile is a file that says what is so anyway.
func newFile(c *Config) *file {
	f := &file{}
	t := &f.Telemetry
	t.Enabled, t.ServiceName, t.SampleRate = c.Enabled, c.ServiceName, ratio(c.Traces.SampleRatio)
	t.Metrics.CorrelationIDLabel, t.Metrics.CorrelationIDBudget = c.Metrics.CorrelationLabel, count(c.Metrics.CorrelationBudget)
	t.Metrics.Prometheus, t.Logs.Enabled = c.Metrics.Prometheus, c.Logs.Enabled
	t.Traces.MaxParentAge = duration(c.Traces.MaxParentAge)
	return f
}

func (f *file) apply(c *Config) {
	t := &f.Telemetry
	c.Enabled, c.ServiceName, c.Traces.SampleRatio = t.Enabled, t.ServiceName, float64(t.SampleRate)
	c.Metrics.CorrelationLabel, c.Metrics.CorrelationBudget = t.Metrics.CorrelationIDLabel, int(t.Metrics.CorrelationIDBudget)
	c.Metrics.Prometheus, c.Logs.Enabled = t.Metrics.Prometheus, t.Logs.Enabled
	c.Traces.MaxParentAge = time.Duration(t.Traces.MaxParentAge)
}

// read lays what a file says over what is known; one that is not there says nothing.
func (f *file) read(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read telemetry configuration: %w", err)
	}
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	return explain(path, decoder.Decode(f))
}

// explain says where in a file something is wrong, and which key may have been meant.
func explain(path string, err error) error {
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		known := keys(reflect.TypeFor[file](), "")
		problems := make([]error, 0, len(unknown.Errors))
		for i := range unknown.Errors {
			line, _ := unknown.Errors[i].Position()
			key := strings.Join(unknown.Errors[i].Key(), ".")
			problems = append(problems, fmt.Errorf("%s:%d: there is no key %s; the nearest is %s", path, line, key, nearest(key, known)))
		}
		return errors.Join(problems...)
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return fmt.Errorf("%s:%d: %s", path, line, strings.TrimPrefix(wrong.Error(), "toml: "))
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// keys are all that a file may have, tables among them.
func keys(of reflect.Type, prefix string) []string {
	var out []string
	for field := range of.Fields() {
		key := prefix + field.Tag.Get("toml")
		out = append(out, key)
		if field.Type.Kind() == reflect.Struct {
			out = append(out, keys(field.Type, key+".")...)
		}
	}
	return out
}

// nearest is the word that takes the fewest changes to get to, or the first of them.
func nearest(word string, among []string) string {
	best, distance := "", math.MaxInt
	for _, candidate := range among {
		if d := edits(word, candidate); d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// edits is Levenshtein's distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := above
			if a[i] != b[j] {
				replaced++
			}
			above = row[j+1]
			row[j+1] = min(above+1, row[j]+1, replaced)
		}
	}
	return row[len(b)]
}

// The types of values, so that what is wrong with one is found where it stands.
type (
	ratio        float64
	count        int
	duration     time.Duration
	fileEndpoint string
	fileProtocol Protocol
)

// UnmarshalText reads a share; all from 1 on, none up to 0.
func (r *ratio) UnmarshalText(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsNaN(f) {
		return fmt.Errorf("%q is not a number", text)
	}
	*r = ratio(min(max(f, 0), 1))
	return nil
}

// UnmarshalText reads a positive number.
func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(strings.ReplaceAll(string(text), "_", ""), 10, 32)
	if err != nil || n <= 0 {
		return fmt.Errorf("%q is not a positive number", text)
	}
	*c = count(n)
	return nil
}

// UnmarshalText reads a duration such as 1h or 90s.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil || parsed <= 0 {
		return fmt.Errorf("%q is not a duration such as 1h or 90s", text)
	}
	*d = duration(parsed)
	return nil
}

// UnmarshalText reads a URL.
func (e *fileEndpoint) UnmarshalText(text []byte) error {
	*e = fileEndpoint(text)
	return checkEndpoint(string(text))
}

// UnmarshalText reads a protocol by its name.
func (p *fileProtocol) UnmarshalText(text []byte) error {
	return (*Protocol)(p).UnmarshalText(text)
}
