// Package faulttest breaks connections to PostgreSQL at chosen statements, for tests of what happens when a commit's answer, or
// the commit itself, is lost.
package faulttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Mode says at which side of a statement the connection breaks.
type Mode int

const (
	// CutBefore closes both sides before the statement reaches the server: it is never executed.
	CutBefore Mode = iota
	// CutAfter lets the server execute the statement to its end, drops the answer, and resets the client's connection.
	CutAfter
)

// Rule chooses the statements that break their connection. A statement is matched when it is executed: at the simple protocol's
// Query, and at the extended protocol's Execute with the text that was parsed (preparing alone never matches).
type Rule struct {
	// Contains matches statements with this text in them, in lower case or not. Not used when Match is set.
	Contains string
	// Match matches the statements it returns true for. It is called from several goroutines, one at a
	// time, and must not call the Proxy.
	Match func(statement string) bool
	// Mode says where to cut. Default CutBefore.
	Mode Mode
	// Skip lets that many matches pass first: 3 cuts at the fourth. Default 0.
	Skip int
	// Count is how many matches are cut after those. Default 1; negative means all.
	Count int
	// Probability cuts each match that Skip and Count allow with this chance, from 0 to 1. Default (0): always.
	Probability float64
	// Seed makes the choices of Probability repeatable. Default 0.
	Seed uint64
}

func (r Rule) matches(statement string) bool {
	if r.Match != nil {
		return r.Match(statement)
	}
	return strings.Contains(strings.ToLower(statement), strings.ToLower(r.Contains))
}

// armed is a rule with what it has done so far.
type armed struct {
	rule    Rule
	matched int
	cut     int
	random  *rand.Rand
}

// Proxy is a TCP proxy in front of a PostgreSQL server. It does not do TLS: it answers a client that asks for it that there is
// none. Its methods may be called from several goroutines. The end of the test closes it and all its connections.
type Proxy struct {
	t        testing.TB
	listener net.Listener
	network  string
	upstream string
	running  sync.WaitGroup
	mu       sync.Mutex // guards what follows
	rules    []*armed
	hits     int
	links    map[*link]struct{}
	closed   bool
}

// NewProxy starts a proxy on a free port of 127.0.0.1. upstream is "host:port", the path of a unix socket, or a postgres:// URL.
// It does not connect before a client does.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	network, address, err := resolve(upstream)
	if err != nil {
		t.Fatalf("faulttest: %v", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("faulttest: listen: %v", err)
	}
	p := &Proxy{t: t, listener: listener, network: network, upstream: address, links: map[*link]struct{}{}}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func resolve(upstream string) (network, address string, err error) {
	switch {
	case strings.HasPrefix(upstream, "/"):
		return "unix", upstream, nil
	case strings.Contains(upstream, "://"):
		config, err := pgconn.ParseConfig(upstream)
		if err != nil {
			return "", "", fmt.Errorf("parse the upstream's URL: %w", err)
		}
		network, address = pgconn.NetworkAddress(config.Host, config.Port)
		return network, address, nil
	}
	return "tcp", upstream, nil
}

// Addr is the proxy's host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL returns upstreamURL leading through the proxy, without TLS. The database, user and other parameters stay.
func (p *Proxy) URL(upstreamURL string) string {
	p.t.Helper()
	u, err := url.Parse(upstreamURL)
	if err != nil {
		p.t.Fatalf("faulttest: parse the upstream's URL: %v", err)
	}
	query := u.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = p.Addr(), query.Encode()
	return u.String()
}

// Arm adds a rule. For every executed statement, the rules are asked in the order they were added; the first one that cuts
// decides.
func (p *Proxy) Arm(rule Rule) {
	if rule.Count == 0 {
		rule.Count = 1
	}
	one := &armed{rule: rule, random: rand.New(rand.NewPCG(rule.Seed, 0))}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, one)
}

// Disarm removes all rules. Hits stays.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Hits is the number of connections that rules have cut so far. A CutAfter counts once the server has answered.
func (p *Proxy) Hits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// Stall stops forwarding, in both directions, on the connections that are open now: they look alive and nothing comes through,
// as when a network cable is pulled. Connections opened later work.
func (p *Proxy) Stall() {
	for _, l := range p.live() {
		l.stall()
	}
}

// Resume forwards again on all connections, first what was held back.
func (p *Proxy) Resume() {
	for _, l := range p.live() {
		l.resume()
	}
}

// CutAll resets all connections that are open now, in both directions.
func (p *Proxy) CutAll() {
	for _, l := range p.live() {
		l.cut()
	}
}

func (p *Proxy) live() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// decide asks the rules about a statement that is about to be executed.
func (p *Proxy) decide(statement string) (Mode, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.rules {
		if !one.rule.matches(statement) {
			continue
		}
		one.matched++
		if one.matched <= one.rule.Skip || (one.rule.Count > 0 && one.cut >= one.rule.Count) {
			continue
		}
		if one.rule.Probability > 0 && one.random.Float64() >= one.rule.Probability {
			continue
		}
		one.cut++
		return one.rule.Mode, true
	}
	return 0, false
}

func (p *Proxy) hit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hits++
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	var dialer net.Dialer
	server, err := dialer.DialContext(context.WithoutCancel(p.t.Context()), p.network, p.upstream)
	if err != nil {
		reset(client) // the server is down: the client is to see a connection that breaks, as without a proxy
		return
	}
	l := newLink(p, client, server)
	defer l.cut()
	if !p.add(l) {
		return
	}
	defer p.remove(l)
	l.run()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.links[l] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close() // it has no other use than to end accept
	p.CutAll()
	p.running.Wait()
}
