package reference

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tasker-systems/tasker-go"
)

// reservationTime is how long stock is held.
const reservationTime = 15 * time.Minute

// declinedToken stands for a card that the pretended gateway declines.
const declinedToken = "tok_test_declined"

// reservation is the result of reserve_inventory.
type reservation struct {
	ReservationID      string          `json:"reservation_id"`
	ItemsReserved      int             `json:"items_reserved"`
	ReservationStatus  string          `json:"reservation_status"`
	TotalReservedValue cents           `json:"total_reserved_value"`
	ExpiresAt          time.Time       `json:"expires_at"`
	ReservationDetails []reservedStock `json:"reservation_details"`
}

type reservedStock struct {
	SKU              string `json:"sku"`
	QuantityReserved int64  `json:"quantity_reserved"`
	StockLocation    string `json:"stock_location"`
	LineTotal        cents  `json:"line_total"`
}

// reserve holds the stock of an order. Too little of it is worth another attempt: the warehouse may be filled up.
func (o orders) reserve(key string, order validatedOrder) (any, error) {
	result := reservation{
		ReservationID: reference("RES", key), ItemsReserved: len(order.ValidatedItems), ReservationStatus: "confirmed",
		ExpiresAt: o.time().Add(reservationTime),
	}
	left := make(map[string]int64) // one product may stand in several lines
	for _, item := range order.ValidatedItems {
		entry, ok := catalogue[item.SKU]
		if !ok {
			return nil, refused("PRODUCT_NOT_FOUND", fmt.Sprintf("there is no product %q", item.SKU))
		}
		if _, seen := left[item.SKU]; !seen {
			left[item.SKU] = entry.stock
		}
		if left[item.SKU] < item.Quantity {
			return nil, tasker.WithCode(fmt.Errorf("%s: %d asked for, %d left", item.SKU, item.Quantity, left[item.SKU]), "INSUFFICIENT_STOCK")
		}
		left[item.SKU] -= item.Quantity
		result.TotalReservedValue += item.LineTotal
		result.ReservationDetails = append(result.ReservationDetails, reservedStock{
			SKU: item.SKU, QuantityReserved: item.Quantity, StockLocation: entry.location, LineTotal: item.LineTotal,
		})
	}
	return result, nil
}

// payment is the result of process_payment.
type payment struct {
	PaymentProcessed  bool            `json:"payment_processed"`
	PaymentID         string          `json:"payment_id"`
	TransactionID     string          `json:"transaction_id"`
	AmountCharged     cents           `json:"amount_charged"`
	PaymentMethodUsed string          `json:"payment_method_used"`
	GatewayResponse   gatewayResponse `json:"gateway_response"`
	PaymentStatus     string          `json:"payment_status"`
}

type gatewayResponse struct {
	Status        string `json:"status"`
	TransactionID string `json:"transaction_id"`
	Amount        cents  `json:"amount"`
}

// processPayment charges the total of the order once its stock is held.
func (orders) processPayment(_ context.Context, step *tasker.StepContext) (any, error) {
	var in orderInput
	if err := step.Context(&in); err != nil {
		return nil, err
	}
	order, err := parentResult[validatedOrder](step, "validate_order")
	if err != nil {
		return nil, err
	}
	if _, err := parentResult[reservation](step, "reserve_inventory"); err != nil {
		return nil, err
	}
	return charge(step.IdempotencyKey(), in.Payment, order.OrderTotal)
}

func charge(key string, text json.RawMessage, amount cents) (any, error) {
	var in *struct {
		Method string `json:"method"`
		Token  string `json:"token"`
	}
	switch {
	case absent(text) || json.Unmarshal(text, &in) != nil:
		return nil, refused("MISSING_PAYMENT_INFO", "payment is missing, or is not an object with method and token")
	case in.Method == "":
		return nil, refused("MISSING_PAYMENT_METHOD", "payment.method is missing")
	case in.Token == "":
		return nil, refused("MISSING_PAYMENT_TOKEN", "payment.token is missing")
	case in.Token == declinedToken:
		return nil, refused("PAYMENT_DECLINED", "the gateway declined the payment")
	}
	transaction := reference("TXN", key)
	return payment{
		PaymentProcessed: true, PaymentID: reference("PAY", key), TransactionID: transaction, AmountCharged: amount,
		PaymentMethodUsed: in.Method, PaymentStatus: "completed",
		GatewayResponse: gatewayResponse{Status: "succeeded", TransactionID: transaction, Amount: amount},
	}, nil
}

// shipment is the result of ship_order.
type shipment struct {
	ShipmentID        string `json:"shipment_id"`
	TrackingNumber    string `json:"tracking_number"`
	ShippingStatus    string `json:"shipping_status"`
	EstimatedDelivery string `json:"estimated_delivery"`
	ShippingCost      cents  `json:"shipping_cost"`
	Carrier           string `json:"carrier"`
	ServiceType       string `json:"service_type"`
}

// service is what a carrier offers.
type service struct {
	carrier string
	name    string
	cost    cents
	days    int
}

// serviceFor returns the service for a shipping method; what is neither express nor overnight goes by ground.
func serviceFor(method string) service {
	switch method {
	case "express":
		return service{carrier: "FedEx", name: "Express", cost: 15_00, days: 2}
	case "overnight":
		return service{carrier: "FedEx", name: "Overnight", cost: 25_00, days: 1}
	}
	return service{carrier: "UPS", name: "Ground", cost: 8_99, days: 5}
}

// shipOrder makes the label of an order that is validated, reserved and paid.
func (o orders) shipOrder(_ context.Context, step *tasker.StepContext) (any, error) {
	var in struct {
		Shipping struct {
			Method string `json:"method"`
		} `json:"shipping"`
	}
	if err := step.Context(&in); err != nil {
		return nil, err
	}
	for _, parent := range []string{"validate_order", "reserve_inventory", "process_payment"} {
		if _, err := parentResult[json.RawMessage](step, parent); err != nil {
			return nil, err
		}
	}
	return o.ship(step.IdempotencyKey(), in.Shipping.Method), nil
}

func (o orders) ship(key, method string) shipment {
	by := serviceFor(method)
	return shipment{
		ShipmentID: reference("SHIP", key), TrackingNumber: reference(strings.ToUpper(by.carrier), key),
		ShippingStatus: "label_created", EstimatedDelivery: addWorkdays(o.time(), by.days).Format(time.DateOnly),
		ShippingCost: by.cost, Carrier: by.carrier, ServiceType: by.name,
	}
}

// addWorkdays goes forward by days on which parcels are delivered: not Saturdays and Sundays.
func addWorkdays(from time.Time, days int) time.Time {
	for days > 0 {
		from = from.AddDate(0, 0, 1)
		if day := from.Weekday(); day != time.Saturday && day != time.Sunday {
			days--
		}
	}
	return from
}

// reference makes an id that is the same whenever the step is executed.
func reference(prefix, key string) string {
	sum := sha256.Sum256([]byte(prefix + "/" + key))
	return prefix + "-" + strings.ToUpper(hex.EncodeToString(sum[:8]))
}
