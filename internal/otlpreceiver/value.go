package otlpreceiver

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
)

// attributes are the values by key: strings, bools, int64s, float64s, []byte, []any and map[string]any. They are never nil.
func attributes(from []*commonpb.KeyValue) map[string]any {
	out := make(map[string]any, len(from))
	for _, kv := range from {
		out[kv.GetKey()] = value(kv.GetValue())
	}
	return out
}

func value(from *commonpb.AnyValue) any {
	switch v := from.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_BoolValue:
		return v.BoolValue
	case *commonpb.AnyValue_IntValue:
		return v.IntValue
	case *commonpb.AnyValue_DoubleValue:
		return v.DoubleValue
	case *commonpb.AnyValue_BytesValue:
		return v.BytesValue
	case *commonpb.AnyValue_ArrayValue:
		out := make([]any, 0, len(v.ArrayValue.GetValues()))
		for _, item := range v.ArrayValue.GetValues() {
			out = append(out, value(item))
		}
		return out
	case *commonpb.AnyValue_KvlistValue:
		return attributes(v.KvlistValue.GetValues())
	}
	return nil
}

// canonical is a text that is the same for the same attributes.
func canonical(attributes map[string]any) string {
	text, err := json.Marshal(attributes)
	if err != nil { // a float that is no number
		return fmt.Sprint(attributes)
	}
	return string(text)
}

// instant is a time of OTLP; 0 is none.
func instant(nanoseconds uint64) time.Time {
	if nanoseconds == 0 || nanoseconds > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, int64(nanoseconds))
}
