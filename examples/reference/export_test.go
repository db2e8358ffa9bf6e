package reference

import (
	"encoding/json"
	"time"
)

// Orders are the rules of order fulfilment without a database, for tests: contexts go in as JSON, results come out as such.
type Orders struct{ orders }

func NewOrders(now time.Time) Orders { return Orders{orders{now: func() time.Time { return now }}} }

func (o Orders) Validate(context string) (string, error) {
	var in orderInput
	if err := json.Unmarshal([]byte(context), &in); err != nil {
		return "", err
	}
	return encoded(o.validate(in))
}

func (o Orders) Reserve(key, validated string) (string, error) {
	var order validatedOrder
	if err := json.Unmarshal([]byte(validated), &order); err != nil {
		return "", err
	}
	return encoded(o.reserve(key, order))
}

func Charge(key, payment string, amount int64) (string, error) {
	return encoded(charge(key, json.RawMessage(payment), cents(amount)))
}

func (o Orders) Ship(key, method string) (string, error) { return encoded(o.ship(key, method), nil) }

func encoded(result any, err error) (string, error) {
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(result)
	return string(text), err
}
