package reference

import (
	"fmt"
	"strconv"
	"strings"
)

// cents is an amount of money, exactly. In JSON it is a number with two decimals.
type cents int64

// MarshalJSON writes 1999 as 19.99.
func (c cents) MarshalJSON() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalJSON reads a number with at most two decimals, trailing zeros aside. It never passes through a float.
func (c *cents) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil // the convention of encoding/json
	}
	whole, fraction, _ := strings.Cut(string(text), ".")
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > 2 {
		return fmt.Errorf("%.40q has more than two decimals", text)
	}
	amount, err := strconv.ParseInt(whole+(fraction + "00")[:2], 10, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not an amount of money", text)
	}
	*c = cents(amount)
	return nil
}

func (c cents) String() string {
	sign, amount := "", int64(c)
	if amount < 0 {
		sign, amount = "-", -amount
	}
	return fmt.Sprintf("%s%d.%02d", sign, amount/100, amount%100)
}
