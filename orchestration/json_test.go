package orchestration_test

import (
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// hostile is JSON made to do harm, or almost JSON, by what is wrong with it.
func hostile() map[string]string {
	return map[string]string{
		"a zero character":                 `{"a": "x\u0000y"}`,
		"a zero character in a key":        `{"a\u0000": 1}`,
		"a high surrogate alone":           `["\ud800"]`,
		"a high surrogate before a letter": `["\ud800\u0041"]`,
		"a high surrogate at the end":      `"\uDBFF`,
		"a low surrogate alone":            `["\udc00"]`,
		"surrogates the wrong way round":   `["\udc00\ud800"]`,
		"an endless number":                `{"n": 1e400000}`,
		"an endlessly small number":        `{"n": 1e-400000}`,
		"more digits than numeric has":     `[` + strings.Repeat("9", 140_000) + `]`,
		"more decimals than numeric has":   `[0.` + strings.Repeat("1", 20_000) + `]`,
		"decimals and an exponent":         `[0.` + strings.Repeat("1", 15_800) + `e-900]`,
		"digits and an exponent":           `[` + strings.Repeat("9", 130_800) + `e900]`,
		"not a number":                     `NaN`,
		"infinity":                         `-Infinity`,
		"a hundred thousand levels":        strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"a hundred thousand open levels":   strings.Repeat(`{"a":`, 100_000),
		"bad UTF-8":                        "[\"\xff\xfe\"]",
		"overlong UTF-8":                   "[\"\xc0\x80\"]",
		"a surrogate in UTF-8":             "[\"\xed\xa0\x80\"]",
		"too much":                         `"` + strings.Repeat("x", orchestration.MaxContextBytes) + `"`,
		"nothing":                          ``,
		"white space":                      " \n",
		"two values":                       `{} {}`,
		"a value and a bracket":            `{}]`,
		"an open object":                   `{"a": 1`,
		"a trailing comma":                 `[1,]`,
		"a comment":                        `{} // no`,
		"single quotes":                    `{'a': 1}`,
		"a raw line break":                 "[\"a\nb\"]",
		"a plus sign":                      `[+1]`,
		"a leading zero":                   `[01]`,
		"a byte order mark":                "\ufeff{}",
	}
}

func TestHostileJSONIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := orchestration.CheckJSON("context", []byte(text), orchestration.MaxContextBytes)
			var request *orchestration.RequestError
			require.ErrorAs(t, err, &request)
			require.True(t, strings.HasPrefix(request.Reason, "context "), request.Reason)
			require.Less(t, len(request.Error()), 300, "the reason does not repeat the text")
		})
	}
}

// harmless is JSON that looks hostile and must be taken as it is.
func harmless() []string {
	return []string{
		`null`, `"\\u0000"`, `"\ud83d\ude00"`, `[1e308, -1E-307, 0.10, 12345678901234567890123, 1.0, 100, -0.0]`, `{"a": 1, "a": 2}`,
		`{"A": 1, "a": 2}`, `"\\\\u0000"`, `"\u001f\u2028\u007f<&>"`, " [ ] \n", `{"": ""}`,
		strings.Repeat("[", 500) + strings.Repeat("]", 500), `[` + strings.Repeat("9", 900) + `]`,
	}
}

func TestHarmlessJSONIsStoredAsItIs(t *testing.T) {
	t.Parallel()
	conn := session(t)
	for _, text := range harmless() {
		require.NoError(t, orchestration.CheckJSON("context", []byte(text), orchestration.MaxContextBytes), text)
		stored, err := store(t, conn, text)
		require.NoError(t, err, text)
		require.Equal(t, exact(t, text), exact(t, stored))
	}
}

// FuzzCheckJSON holds the check against Postgres itself: what passes can be stored and is read back the same; what is refused
// Postgres refuses too, unless it breaks one of our own limits.
func FuzzCheckJSON(f *testing.F) {
	for _, text := range hostile() {
		if len(text) < 10_000 {
			f.Add(text)
		}
	}
	for _, text := range harmless() {
		f.Add(text)
	}
	conn := session(f)
	f.Fuzz(func(t *testing.T, text string) {
		checked := orchestration.CheckJSON("context", []byte(text), orchestration.MaxContextBytes)
		stored, err := store(t, conn, text)
		switch {
		case checked == nil:
			require.NoError(t, err, "passed the check: %q", text)
			require.Equal(t, exact(t, text), exact(t, stored))
		case err == nil:
			reason := checked.Error()
			require.True(t, strings.Contains(reason, "more than") || strings.Contains(reason, "nested") ||
				strings.Contains(reason, "out of range"), "Postgres takes what is refused: %q: %s", text, reason)
		}
	})
}

func session(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dbtest.EmptyURL(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// store lets Postgres read the text as jsonb.
func store(t testing.TB, conn *pgx.Conn, text string) (stored string, err error) {
	t.Helper()
	err = conn.QueryRow(context.WithoutCancel(t.Context()), "SELECT $1::text::jsonb::text", text).Scan(&stored)
	require.False(t, conn.IsClosed())
	return stored, err
}

// exact reads JSON with its numbers as they are, whatever their size.
func exact(t testing.TB, text string) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var value any
	require.NoError(t, decoder.Decode(&value))
	return exactValue(value)
}

func exactValue(value any) any {
	switch v := value.(type) {
	case json.Number:
		number, ok := new(big.Rat).SetString(string(v))
		if !ok {
			return "not a number: " + string(v)
		}
		return number.RatString()
	case []any:
		for i := range v {
			v[i] = exactValue(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = exactValue(v[key])
		}
	}
	return value
}
