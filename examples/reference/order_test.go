package reference_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/examples/reference"
	"github.com/tasker-systems/tasker-go/jobs"
)

const goodOrder = `{
  "customer": {"id": 42, "email": "ada@example.com"},
  "items": [
    {"sku": "WIDGET-001", "quantity": 3, "price": 19.99},
    {"sku": "GADGET-002", "quantity": 10, "price": 0.1}
  ],
  "payment": {"method": "credit_card", "token": "tok_visa"},
  "shipping": {"method": "express"}
}`

// thursday is two working days before a Monday.
var thursday = time.Date(2026, time.January, 1, 12, 0, 0, 500, time.UTC)

// requireFailure checks an error's code and whether trying again is in vain.
func requireFailure(t *testing.T, err error, code string, permanent bool) {
	t.Helper()
	var failure *jobs.StepError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, code, failure.Code)
	require.Equal(t, permanent, failure.Permanent, err)
}

func TestAnOrderIsFulfilled(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	task := complete(t, client, "rust_e2e_order_fulfillment", "business_workflow", goodOrder)
	result := func(step string) map[string]any {
		var fields map[string]any
		decoder := json.NewDecoder(strings.NewReader(string(task.Step(step).Result)))
		decoder.UseNumber()
		require.NoError(t, decoder.Decode(&fields))
		return fields
	}
	require.Equal(t, json.Number("60.97"), result("validate_order")["order_total"])
	require.Equal(t, json.Number("60.97"), result("reserve_inventory")["total_reserved_value"])
	require.Equal(t, json.Number("60.97"), result("process_payment")["amount_charged"])
	require.Equal(t, "completed", result("process_payment")["payment_status"])
	require.Equal(t, json.Number("15.00"), result("ship_order")["shipping_cost"])
	require.Equal(t, "label_created", result("ship_order")["shipping_status"])
	want, err := reference.NewOrders(thursday).Ship(task.ID.String()+"/ship_order", "express")
	require.NoError(t, err)
	require.Contains(t, want, result("ship_order")["shipment_id"], "the id comes from the idempotency key alone")
}

func TestAnOrderThatPassesTheSchemaStillHasToPassTheRules(t *testing.T) {
	t.Parallel()
	client := start(t, "test")
	for _, c := range []struct {
		name, from, to string
		step, code     string
		attempts       int
		permanent      bool
	}{
		{"no items", goodOrder[strings.Index(goodOrder, "[") : strings.Index(goodOrder, "]")+1], "[]", "validate_order", "EMPTY_ORDER_ITEMS", 1, true},
		{"an unknown product", "GADGET-002", "GADGET-001", "validate_order", "PRODUCT_NOT_FOUND", 1, true},
		{"a half cent", "19.99", "19.995", "validate_order", "INVALID_PRICE", 1, true},
		{"too little stock", `"quantity": 3`, `"quantity": 101`, "reserve_inventory", "INSUFFICIENT_STOCK", 2, false},
		{"a declined card", "tok_visa", "tok_test_declined", "process_payment", "PAYMENT_DECLINED", 1, true},
		{"no token", "tok_visa", "", "process_payment", "MISSING_PAYMENT_TOKEN", 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, goodOrder, c.from)
			input := strings.Replace(goodOrder, c.from, c.to, 1)
			step := fail(t, client, "rust_e2e_order_fulfillment", "business_workflow", input).Step(c.step)
			require.Equal(t, c.code, step.Failure.Code)
			require.Equal(t, c.attempts, step.Attempts)
			require.Equal(t, c.permanent, step.Failure.Permanent)
		})
	}
}

func TestAValidOrderIsAddedUpToTheCent(t *testing.T) {
	t.Parallel()
	got, err := reference.NewOrders(thursday).Validate(goodOrder)
	require.NoError(t, err)
	require.Equal(t, `{"customer_validated":true,"customer_id":42,"validated_items":[`+
		`{"sku":"WIDGET-001","product_name":"Premium Widget A","quantity":3,"unit_price":19.99,"line_total":59.97,`+
		`"available_stock":100,"category":"widgets"},`+
		`{"sku":"GADGET-002","product_name":"Standard Gadget C","quantity":10,"unit_price":0.10,"line_total":1.00,`+
		`"available_stock":200,"category":"gadgets"}],`+
		`"order_total":60.97,"validation_status":"complete","validated_at":"2026-01-01T12:00:00Z"}`, got)
}

func TestEachMistakeInAnOrderHasItsCode(t *testing.T) {
	t.Parallel()
	const customer = `"customer": {"id": 1, "email": "a@b.c"}`
	item := func(sku, quantity, price string) string {
		return `{` + customer + `, "items": [{"sku": "` + sku + `", "quantity": ` + quantity + `, "price": ` + price + `}]}`
	}
	for _, c := range []struct{ name, input, code string }{
		{"no customer", `{}`, "MISSING_CUSTOMER_INFO"},
		{"a null customer", `{"customer": null}`, "MISSING_CUSTOMER_INFO"},
		{"a customer that is a name", `{"customer": "Ada"}`, "MISSING_CUSTOMER_INFO"},
		{"no customer id", `{"customer": {"email": "a@b.c"}}`, "MISSING_CUSTOMER_ID"},
		{"no email", `{"customer": {"id": 1}}`, "MISSING_CUSTOMER_EMAIL"},
		{"an empty email", `{"customer": {"id": 1, "email": ""}}`, "MISSING_CUSTOMER_EMAIL"},
		{"no items", `{` + customer + `}`, "MISSING_ORDER_ITEMS"},
		{"items that are no list", `{` + customer + `, "items": {}}`, "INVALID_ORDER_ITEMS"},
		{"an empty list of items", `{` + customer + `, "items": []}`, "EMPTY_ORDER_ITEMS"},
		{"an item that is a word", `{` + customer + `, "items": ["WIDGET-001"]}`, "INVALID_ORDER_ITEM"},
		{"a null item", `{` + customer + `, "items": [null]}`, "INVALID_ORDER_ITEM"},
		{"an item without sku", item("", "1", "1"), "INVALID_ORDER_ITEM"},
		{"an item without quantity", item("WIDGET-001", "null", "1"), "INVALID_ORDER_ITEM"},
		{"no piece", item("WIDGET-001", "0", "1"), "INVALID_QUANTITY"},
		{"a negative quantity", item("WIDGET-001", "-1", "1"), "INVALID_QUANTITY"},
		{"half a piece", item("WIDGET-001", "0.5", "1"), "INVALID_QUANTITY"},
		{"more pieces than an int64 holds", item("WIDGET-001", "9223372036854775808", "0"), "INVALID_QUANTITY"},
		{"a negative price", item("WIDGET-001", "1", "-0.01"), "INVALID_PRICE"},
		{"a price in half cents", item("WIDGET-001", "1", "0.005"), "INVALID_PRICE"},
		{"a price in words", item("WIDGET-001", "1", `"free"`), "INVALID_PRICE"},
		{"an unknown product", item("GADGET-001", "1", "1"), "PRODUCT_NOT_FOUND"},
		{"a cent too much", item("WIDGET-001", "1", "50000.01"), "ORDER_TOTAL_TOO_HIGH"},
		{"a total beyond int64", item("WIDGET-001", "9223372036854775807", "50000"), "ORDER_TOTAL_TOO_HIGH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := reference.NewOrders(thursday).Validate(c.input)
			requireFailure(t, err, c.code, true)
		})
	}
	for _, price := range []string{"50000", "50000.000", "0", "-0"} {
		_, err := reference.NewOrders(thursday).Validate(item("WIDGET-001", "1", price))
		require.NoError(t, err, price)
	}
}

func TestStockIsHeldForAQuarterOfAnHourAtItsPlace(t *testing.T) {
	t.Parallel()
	rules := reference.NewOrders(thursday)
	order, err := rules.Validate(goodOrder)
	require.NoError(t, err)
	got, err := rules.Reserve("task/reserve_inventory", order)
	require.NoError(t, err)
	again, err := reference.NewOrders(thursday).Reserve("task/reserve_inventory", order)
	require.NoError(t, err)
	require.Equal(t, got, again)
	require.Regexp(t, `"reservation_id":"RES-[0-9A-F]{16}","items_reserved":2,"reservation_status":"confirmed",`+
		`"total_reserved_value":60\.97,"expires_at":"2026-01-01T12:15:00Z"`, got)
	require.Contains(t, got, `{"sku":"WIDGET-001","quantity_reserved":3,"stock_location":"WH-EAST-A1","line_total":59.97}`)
	require.Contains(t, got, `{"sku":"GADGET-002","quantity_reserved":10,"stock_location":"WH-CENTRAL-C3","line_total":1.00}`)
	other, err := rules.Reserve("another/reserve_inventory", order)
	require.NoError(t, err)
	require.NotEqual(t, got, other)
}

func TestStockIsCountedOverAllLinesOfAnOrder(t *testing.T) {
	t.Parallel()
	rules := reference.NewOrders(thursday)
	reserve := func(second string) error {
		order, err := rules.Validate(`{"customer": {"id": 1, "email": "a@b.c"}, "items": [
			{"sku": "WIDGET-002", "quantity": 30, "price": 1}, {"sku": "WIDGET-002", "quantity": ` + second + `, "price": 1}]}`)
		return errors.Join(err, func() error { _, err := rules.Reserve("key", order); return err }())
	}
	require.NoError(t, reserve("20"))
	requireFailure(t, reserve("21"), "INSUFFICIENT_STOCK", false)
}

func TestAPaymentNeedsAMethodATokenAndAGatewayThatAgrees(t *testing.T) {
	t.Parallel()
	for payment, code := range map[string]string{
		``: "MISSING_PAYMENT_INFO", `null`: "MISSING_PAYMENT_INFO", `"cash"`: "MISSING_PAYMENT_INFO",
		`{}`: "MISSING_PAYMENT_METHOD", `{"token": "t"}`: "MISSING_PAYMENT_METHOD",
		`{"method": "card"}`: "MISSING_PAYMENT_TOKEN", `{"method": "card", "token": "tok_test_declined"}`: "PAYMENT_DECLINED",
	} {
		_, err := reference.Charge("key", payment, 1)
		requireFailure(t, err, code, true)
	}
	got, err := reference.Charge("task/process_payment", `{"method": "card", "token": "tok_visa"}`, 60_97)
	require.NoError(t, err)
	require.Regexp(t, `^{"payment_processed":true,"payment_id":"PAY-[0-9A-F]{16}","transaction_id":"(TXN-[0-9A-F]{16})",`+
		`"amount_charged":60\.97,"payment_method_used":"card","gateway_response":{"status":"succeeded",`+
		`"transaction_id":"TXN-[0-9A-F]{16}","amount":60\.97},"payment_status":"completed"}$`, got)
}

func TestAParcelArrivesAfterItsWorkingDays(t *testing.T) {
	t.Parallel()
	friday, saturday := thursday.AddDate(0, 0, 1), thursday.AddDate(0, 0, 2)
	for _, c := range []struct {
		name             string
		at               time.Time
		method, delivery string
		service          string
	}{
		{"express over a weekend", thursday, "express", "2026-01-05", `"shipping_cost":15.00,"carrier":"FedEx","service_type":"Express"`},
		{"overnight before a weekend", thursday, "overnight", "2026-01-02", `"shipping_cost":25.00,"carrier":"FedEx","service_type":"Overnight"`},
		{"overnight from a Friday", friday, "overnight", "2026-01-05", `"carrier":"FedEx"`},
		{"overnight from a Saturday", saturday, "overnight", "2026-01-05", `"carrier":"FedEx"`},
		{"ground", thursday, "standard", "2026-01-08", `"shipping_cost":8.99,"carrier":"UPS","service_type":"Ground"`},
		{"no method", saturday, "", "2026-01-09", `"carrier":"UPS"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := reference.NewOrders(c.at).Ship("task/ship_order", c.method)
			require.NoError(t, err)
			require.Contains(t, got, `"estimated_delivery":"`+c.delivery+`"`)
			require.Contains(t, got, c.service)
		})
	}
}
