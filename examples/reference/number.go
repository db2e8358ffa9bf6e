package reference

import (
	"bytes"
	"fmt"
	"math/big"
	"strings"
)

// Number is an integer of any size. In JSON it is a number while it fits an int64, else a string of its decimal digits: many
// readers of JSON would round a longer number without a word. The zero value is 0.
type Number struct{ digits *big.Int }

// NewNumber returns n as a Number.
func NewNumber(n int64) Number { return Number{big.NewInt(n)} }

// big returns the value, which must not be changed.
func (n Number) big() *big.Int {
	if n.digits == nil {
		return new(big.Int)
	}
	return n.digits
}

// Times returns n·m.
func (n Number) Times(m Number) Number { return Number{new(big.Int).Mul(n.big(), m.big())} }

// Square returns n².
func (n Number) Square() Number { return n.Times(n) }

// Even reports whether 2 divides n.
func (n Number) Even() bool { return n.big().Bit(0) == 0 }

// Int64 returns n, and whether it fits.
func (n Number) Int64() (int64, bool) { return n.big().Int64(), n.big().IsInt64() }

// String returns the decimal digits.
func (n Number) String() string { return n.big().String() }

// MarshalJSON writes a number, or a string where an int64 would overflow.
func (n Number) MarshalJSON() ([]byte, error) {
	if n.big().IsInt64() {
		return []byte(n.String()), nil
	}
	return []byte(`"` + n.String() + `"`), nil
}

// UnmarshalJSON reads what MarshalJSON writes. It also takes 6.0 for 6, as JSON Schema does. Exponents are refused: Postgres
// writes them out before a handler sees them.
func (n *Number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil // the convention of encoding/json
	}
	if len(text) > 1 && text[0] == '"' {
		text = bytes.Trim(text, `"`)
	}
	whole, fraction, _ := strings.Cut(string(text), ".")
	digits, ok := new(big.Int).SetString(whole, 10)
	if !ok || strings.Trim(fraction, "0") != "" {
		return fmt.Errorf("%.40q is not an integer", text)
	}
	n.digits = digits
	return nil
}
