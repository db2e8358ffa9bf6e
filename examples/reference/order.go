package reference

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tasker-systems/tasker-go"
)

// orders fulfils orders. The outside world, a warehouse, a payment gateway and carriers, is pretended; what a step would do
// there bears an id made from the step's idempotency key, so that a second execution finds what the first has done.
type orders struct{ now func() time.Time }

func (o orders) handlers() map[string]tasker.HandlerFunc {
	return map[string]tasker.HandlerFunc{
		"orders.validate_order": func(_ context.Context, step *tasker.StepContext) (any, error) {
			var in orderInput
			if err := step.Context(&in); err != nil {
				return nil, err
			}
			return o.validate(in)
		},
		"orders.reserve_inventory": func(_ context.Context, step *tasker.StepContext) (any, error) {
			order, err := parentResult[validatedOrder](step, "validate_order")
			if err != nil {
				return nil, err
			}
			return o.reserve(step.IdempotencyKey(), order)
		},
		"orders.process_payment": o.processPayment,
		"orders.ship_order":      o.shipOrder,
	}
}

// orderInput is the context of an order. Its parts are decoded one by one, so that each has its own failure.
type orderInput struct {
	Customer json.RawMessage `json:"customer"`
	Items    json.RawMessage `json:"items"`
	Payment  json.RawMessage `json:"payment"`
}

// product is an entry of the catalogue.
type product struct {
	name     string
	category string
	stock    int64
	location string
}

var catalogue = map[string]product{
	"WIDGET-001": {name: "Premium Widget A", category: "widgets", stock: 100, location: "WH-EAST-A1"},
	"WIDGET-002": {name: "Deluxe Widget B", category: "widgets", stock: 50, location: "WH-WEST-B2"},
	"GADGET-002": {name: "Standard Gadget C", category: "gadgets", stock: 200, location: "WH-CENTRAL-C3"},
}

// maxOrderTotal is the most that one order may come to.
const maxOrderTotal cents = 50_000_00

// validatedOrder is the result of validate_order.
type validatedOrder struct {
	CustomerValidated bool            `json:"customer_validated"`
	CustomerID        Number          `json:"customer_id"`
	ValidatedItems    []validatedItem `json:"validated_items"`
	OrderTotal        cents           `json:"order_total"`
	ValidationStatus  string          `json:"validation_status"`
	ValidatedAt       time.Time       `json:"validated_at"`
}

type validatedItem struct {
	SKU            string `json:"sku"`
	ProductName    string `json:"product_name"`
	Quantity       int64  `json:"quantity"`
	UnitPrice      cents  `json:"unit_price"`
	LineTotal      cents  `json:"line_total"`
	AvailableStock int64  `json:"available_stock"`
	Category       string `json:"category"`
}

// validate checks an order and adds it up. Every failure is for good.
func (o orders) validate(in orderInput) (any, error) {
	customer, err := validateCustomer(in.Customer)
	if err != nil {
		return nil, err
	}
	items, err := splitItems(in.Items)
	if err != nil {
		return nil, err
	}
	order := validatedOrder{
		CustomerValidated: true, CustomerID: customer, ValidationStatus: "complete", ValidatedAt: o.time(),
	}
	for i, text := range items {
		item, err := validateItem(i, text)
		if err != nil {
			return nil, err
		}
		// Divided, for a product could overflow.
		if item.UnitPrice > 0 && item.Quantity > int64((maxOrderTotal-order.OrderTotal)/item.UnitPrice) {
			return nil, refused("ORDER_TOTAL_TOO_HIGH", fmt.Sprintf("the order comes to more than %v", maxOrderTotal))
		}
		item.LineTotal = item.UnitPrice * cents(item.Quantity)
		order.OrderTotal += item.LineTotal
		order.ValidatedItems = append(order.ValidatedItems, item)
	}
	return order, nil
}

func validateCustomer(text json.RawMessage) (Number, error) {
	var customer *struct {
		ID    *Number `json:"id"`
		Email string  `json:"email"`
	}
	switch {
	case absent(text) || json.Unmarshal(text, &customer) != nil:
		return Number{}, refused("MISSING_CUSTOMER_INFO", "customer is missing, or is not an object with id and email")
	case customer.ID == nil:
		return Number{}, refused("MISSING_CUSTOMER_ID", "customer.id is missing")
	case customer.Email == "":
		return Number{}, refused("MISSING_CUSTOMER_EMAIL", "customer.email is missing")
	}
	return *customer.ID, nil
}

func splitItems(text json.RawMessage) ([]json.RawMessage, error) {
	var items []json.RawMessage
	switch {
	case absent(text):
		return nil, refused("MISSING_ORDER_ITEMS", "items is missing")
	case json.Unmarshal(text, &items) != nil:
		return nil, refused("INVALID_ORDER_ITEMS", "items is not a list")
	case len(items) == 0:
		return nil, refused("EMPTY_ORDER_ITEMS", "items is empty")
	}
	return items, nil
}

// validateItem checks one item; its line total is the caller's business.
func validateItem(i int, text json.RawMessage) (validatedItem, error) {
	refuse := func(code, message string) (validatedItem, error) {
		return validatedItem{}, refused(code, fmt.Sprintf("items[%d]%s", i, message))
	}
	var in struct {
		SKU      string          `json:"sku"`
		Quantity json.RawMessage `json:"quantity"`
		Price    json.RawMessage `json:"price"`
	}
	if json.Unmarshal(text, &in) != nil || in.SKU == "" || absent(in.Quantity) || absent(in.Price) {
		return refuse("INVALID_ORDER_ITEM", " is not an object with sku, quantity and price")
	}
	var number Number
	err := json.Unmarshal(in.Quantity, &number)
	quantity, fits := number.Int64()
	if err != nil || !fits || quantity <= 0 {
		return refuse("INVALID_QUANTITY", ".quantity must be a positive integer")
	}
	var price cents
	if err := json.Unmarshal(in.Price, &price); err != nil || price < 0 {
		return refuse("INVALID_PRICE", ".price must be an amount of at most two decimals, not below 0")
	}
	entry, ok := catalogue[in.SKU]
	if !ok {
		return refuse("PRODUCT_NOT_FOUND", fmt.Sprintf(".sku: there is no product %q", in.SKU))
	}
	return validatedItem{
		SKU: in.SKU, ProductName: entry.name, Quantity: quantity, UnitPrice: price, AvailableStock: entry.stock,
		Category: entry.category,
	}, nil
}

// absent reports whether a part of an object is missing or null.
func absent(text json.RawMessage) bool { return len(text) == 0 || string(text) == "null" }

// time is now in whole seconds, which is as exact as an order needs it.
func (o orders) time() time.Time { return o.now().UTC().Truncate(time.Second) }
