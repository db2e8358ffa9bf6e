package dag

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Limits of a template.
const (
	MaxSteps           = 20_000
	MaxEdges           = 200_000
	maxNamespaceLength = 29
	maxNameLength      = 64
	maxStepNameLength  = 128
	maxVersionLength   = 50
	maxCallableLength  = 500
	maxAttemptsLimit   = 100
	maxBackoffLimit    = 3_600_000
	maxTimeoutSeconds  = 7 * 24 * 3600
	// maxSuggestFrom bounds the work of finding the nearest name: every wrong name is compared with every right one.
	maxSuggestFrom = 500
)

var (
	// A namespace is also the name of a River queue.
	namespacePattern = regexp.MustCompile(`^[a-z0-9]+(_[a-z0-9]+)*$`)
	namePattern      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.\-]*$`)
)

// Problem is one thing wrong with a template.
type Problem struct {
	// Code names the kind of problem, such as MISSING_DEP_REF.
	Code string
	// Path says where, as a YAML path: $.steps[2].dependencies[0].
	Path string
	// Message says what is wrong and what to do.
	Message string
}

// Problems is everything wrong with a template, as an error.
type Problems []Problem //nolint:errname,recvcheck // problems are what it is; it is built in place and read by value

// Error lists the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = fmt.Sprintf("%s: %s (%s)", strings.TrimPrefix(problem.Path, "$."), problem.Message, problem.Code)
	}
	return "template is not valid:\n  " + strings.Join(lines, "\n  ")
}

func (p *Problems) addf(code, path, format string, args ...any) {
	*p = append(*p, Problem{Code: code, Path: path, Message: fmt.Sprintf(format, args...)})
}

// Validate returns everything that is wrong with the template; nil means that it can run.
func Validate(t *Template) Problems {
	var p Problems
	validateHead(&p, t)
	if len(t.Steps) > MaxSteps {
		p.addf("TOO_MANY_STEPS", "$.steps", "%d steps, at most %d are allowed", len(t.Steps), MaxSteps)
		return p
	}
	names := validateSteps(&p, t)
	validateDependencies(&p, t, names)
	for _, env := range slices.Sorted(maps.Keys(t.Environments)) {
		for i, o := range t.Environments[env].Steps {
			path := fmt.Sprintf("$.environments.%s.steps[%d]", env, i)
			if _, ok := names[o.Name]; !ok && o.Name != "ALL" {
				p.addf("MISSING_STEP_REF", path+".name", "%s%s", unknownStep(o.Name, names), "; ALL means every step")
			}
			validateTimeout(&p, o.TimeoutSeconds, path)
			validateRetry(&p, o.Retry, path+".retry")
		}
	}
	return p
}

func validateHead(p *Problems, t *Template) {
	switch {
	case len(t.Namespace) > maxNamespaceLength:
		p.addf("NAMESPACE_TOO_LONG", "$.namespace_name", "namespace %q has %d characters, at most %d are allowed",
			t.Namespace, len(t.Namespace), maxNamespaceLength)
	case !namespacePattern.MatchString(t.Namespace):
		p.addf("BAD_NAMESPACE", "$.namespace_name", "namespace %q must be lower case letters, digits and single underscores", t.Namespace)
	case t.Namespace == "orchestration":
		p.addf("BAD_NAMESPACE", "$.namespace_name", `namespace "orchestration" is the name of Tasker's own queue; choose another`)
	}
	validateName(p, "$.name", "template name", t.Name, maxNameLength)
	validateName(p, "$.version", "version", t.Version, maxVersionLength)
	switch t.Identity {
	case "", IdentityStrict, IdentityCallerProvided, IdentityAlwaysUnique:
	default:
		p.addf("BAD_IDENTITY_STRATEGY", "$.identity_strategy",
			"identity strategy %q is not one of strict, caller_provided, always_unique", t.Identity)
	}
	switch t.Lifecycle.OnFailure {
	case "", OnFailureError, OnFailureBlock:
	default:
		p.addf("BAD_ON_FAILURE", "$.lifecycle.on_failure", "on_failure %q is not one of error, block", t.Lifecycle.OnFailure)
	}
}

func validateName(p *Problems, path, what, name string, longest int) {
	switch {
	case name == "":
		p.addf("EMPTY_NAME", path, "%s is missing", what)
	case len(name) > longest:
		p.addf("NAME_TOO_LONG", path, "%s has %d characters, at most %d are allowed", what, len(name), longest)
	case !namePattern.MatchString(name):
		p.addf("BAD_NAME", path, "%s %q must be letters, digits, '_', '-' and '.', and begin with a letter or digit", what, name)
	}
}

func validateSteps(p *Problems, t *Template) map[string]int {
	names := make(map[string]int, len(t.Steps))
	if len(t.Steps) == 0 {
		p.addf("NO_STEPS", "$.steps", "a template needs at least one step")
	}
	for i := range t.Steps {
		s, path := &t.Steps[i], fmt.Sprintf("$.steps[%d]", i)
		validateName(p, path+".name", "step name", s.Name, maxStepNameLength)
		if first, ok := names[s.Name]; ok {
			p.addf("DUPLICATE_STEP_NAME", path+".name", "step %q is already step %d; names are unique in a template", s.Name, first+1)
		} else {
			names[s.Name] = i
		}
		if s.Type != "" && s.Type != StepStandard {
			p.addf("UNSUPPORTED_STEP_TYPE", path+".type", "step type %q is not supported; only standard steps are", s.Type)
		}
		if s.Handler.Callable == "" || len(s.Handler.Callable) > maxCallableLength {
			p.addf("EMPTY_CALLABLE", path+".handler.callable", "step %q needs a handler.callable of 1 to %d characters", s.Name, maxCallableLength)
		}
		validateTimeout(p, s.TimeoutSeconds, path)
		validateRetry(p, s.Retry, path+".retry")
	}
	return names
}

func validateTimeout(p *Problems, seconds float64, path string) {
	if !(seconds >= 0 && seconds <= maxTimeoutSeconds) { // neither is NaN
		p.addf("BAD_TIMEOUT", path+".timeout_seconds", "timeout_seconds %v is outside 0 to %d", seconds, maxTimeoutSeconds)
	}
}

func validateRetry(p *Problems, r *Retry, path string) {
	if r == nil {
		return
	}
	if r.MaxAttempts != nil && (*r.MaxAttempts < 0 || *r.MaxAttempts > maxAttemptsLimit) {
		p.addf("BAD_RETRY", path+".max_attempts", "max_attempts %d is outside 0 to %d; it counts every execution, the first included",
			*r.MaxAttempts, maxAttemptsLimit)
	}
	switch r.Backoff {
	case "", BackoffNone, BackoffLinear, BackoffExponential, BackoffFibonacci:
	default:
		p.addf("BAD_RETRY", path+".backoff", "backoff %q is not one of none, linear, exponential, fibonacci", r.Backoff)
	}
	for _, ms := range []struct {
		key   string
		value *int64
	}{{"backoff_base_ms", r.BackoffBaseMS}, {"max_backoff_ms", r.MaxBackoffMS}} {
		if ms.value != nil && (*ms.value < 0 || *ms.value > maxBackoffLimit) {
			p.addf("BAD_RETRY", path+"."+ms.key, "%s %d is outside 0 to %d", ms.key, *ms.value, maxBackoffLimit)
		}
	}
	if r.Jitter != nil && !(*r.Jitter >= 0 && *r.Jitter <= 1) {
		p.addf("BAD_RETRY", path+".jitter", "jitter %v is outside 0 to 1", *r.Jitter)
	}
}

func validateDependencies(p *Problems, t *Template, names map[string]int) {
	edges := 0
	parents := make([][]int, len(t.Steps))
	children := make([][]int, len(t.Steps))
	for i := range t.Steps {
		seen := make(map[string]bool, len(t.Steps[i].Dependencies))
		for j, name := range t.Steps[i].Dependencies {
			path := fmt.Sprintf("$.steps[%d].dependencies[%d]", i, j)
			parent, known := names[name]
			switch {
			case name == t.Steps[i].Name:
				p.addf("SELF_DEPENDENCY", path, "step %q depends on itself", name)
			case !known:
				p.addf("MISSING_DEP_REF", path, "%s", unknownStep(name, names))
			case seen[name]:
				p.addf("DUPLICATE_DEPENDENCY", path, "step %q names %q twice", t.Steps[i].Name, name)
			default:
				parents[i] = append(parents[i], parent)
				children[parent] = append(children[parent], i)
			}
			seen[name] = true
			edges++
		}
	}
	if edges > MaxEdges {
		p.addf("TOO_MANY_EDGES", "$.steps", "%d dependencies, at most %d are allowed", edges, MaxEdges)
	}
	if cycle := findCycle(t, parents, topological(parents, children)); cycle != nil {
		p.addf("CYCLE_DETECTED", "$.steps", "steps wait for each other: %s", strings.Join(cycle, " → "))
	}
}

// findCycle walks up from a step that the topological order left out until it meets itself.
func findCycle(t *Template, parents [][]int, order []int) []string {
	if len(order) == len(parents) {
		return nil
	}
	sorted := make(map[int]bool, len(order))
	for _, i := range order {
		sorted[i] = true
	}
	at := 0
	for sorted[at] {
		at++
	}
	position := map[int]int{}
	var path []int
	for {
		if start, ok := position[at]; ok {
			names := []string{t.Steps[at].Name}
			for k := len(path) - 1; k >= start; k-- {
				names = append(names, t.Steps[path[k]].Name)
			}
			return names
		}
		position[at] = len(path)
		path = append(path, at)
		for _, parent := range parents[at] {
			if !sorted[parent] {
				at = parent
				break
			}
		}
	}
}

// unknownStep names a step that is not there, with the nearest that is.
func unknownStep(name string, names map[string]int) string {
	if len(names) > maxSuggestFrom {
		return fmt.Sprintf("there is no step %q", name)
	}
	best, distance := "", len(name)/2+2
	for candidate := range names {
		if d := editDistance(name, candidate, distance); d < distance || (d == distance && candidate < best) {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return fmt.Sprintf("there is no step %q", name)
	}
	return fmt.Sprintf("there is no step %q; did you mean %q?", name, best)
}

// editDistance is Levenshtein's, given up on beyond limit.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
