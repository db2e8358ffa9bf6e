package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// requestTimeout bounds one request, maxBody its answer.
	requestTimeout = 10 * time.Second
	maxBody        = 32 << 20
)

// get reads a page; one that is not there, or that is refused, is a *rejectedError.
func get(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Accept", "application/json, text/plain")
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names method and URL
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, &rejectedError{response.StatusCode, string(body)}
	}
	return body, nil
}

// getJSON asks an API.
func getJSON(ctx context.Context, base, path string, parameters url.Values, into any) error {
	address := strings.TrimSuffix(base, "/") + path
	if len(parameters) > 0 {
		address += "?" + parameters.Encode()
	}
	body, err := get(ctx, address)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
