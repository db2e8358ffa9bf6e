package reference_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/examples/reference"
)

func TestANumberIsANumberWhileAnInt64HoldsItAndAStringBeyond(t *testing.T) {
	t.Parallel()
	longest, shortest, one := reference.NewNumber(math.MaxInt64), reference.NewNumber(math.MinInt64), reference.NewNumber(1)
	for _, c := range []struct {
		number reference.Number
		want   string
	}{
		{reference.Number{}, `0`},
		{longest, `9223372036854775807`},
		{shortest, `-9223372036854775808`},
		{shortest.Times(reference.NewNumber(-1)), `"9223372036854775808"`},
		{longest.Square().Times(one), `"85070591730234615847396907784232501249"`},
	} {
		text, err := json.Marshal(c.number)
		require.NoError(t, err)
		require.Equal(t, c.want, string(text))
		var back reference.Number
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, c.number.String(), back.String())
	}
}

func TestOnlyIntegersAreReadAsNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`6`: "6", `"6"`: "6", `6.0`: "6", `-2`: "-2", `"-340282366920938463463374607431768211456"`: "-340282366920938463463374607431768211456"} {
		var n reference.Number
		require.NoError(t, json.Unmarshal([]byte(text), &n), text)
		require.Equal(t, want, n.String())
	}
	for _, text := range []string{`6.5`, `"six"`, `""`, `1e400000000`, `true`, `[]`, `{}`, `"0x10"`, `"1_000"`} {
		var n reference.Number
		require.Error(t, json.Unmarshal([]byte(text), &n), text)
	}
}
