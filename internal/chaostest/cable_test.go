//go:build linux

package chaostest

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// cable is a process's way to Postgres. Pulled, it carries nothing, of new connections neither, and tells nobody.
type cable struct {
	listener net.Listener
	upstream string
	running  sync.WaitGroup

	mu     sync.Mutex
	pulled chan struct{} // closed while the cable is whole
	conns  []net.Conn
	gone   bool
}

func newCable(t testing.TB, upstream string) *cable {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	whole := make(chan struct{})
	close(whole)
	c := &cable{listener: listener, upstream: upstream, pulled: whole}
	c.running.Go(c.accept)
	t.Cleanup(c.close)
	return c
}

// url is the database's, through the cable.
func (c *cable) url(t testing.TB, direct string) string {
	t.Helper()
	u, err := url.Parse(direct)
	require.NoError(t, err)
	u.Host, u.RawQuery = c.listener.Addr().String(), "sslmode=disable"
	return u.String()
}

func (c *cable) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp4", c.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, client, server)
		gone := c.gone
		c.mu.Unlock()
		if gone {
			_, _ = client.Close(), server.Close()
			return
		}
		c.running.Go(func() { c.carry(server, client) })
		c.running.Go(func() { c.carry(client, server) })
	}
}

// carry forwards one direction, what was under way when the cable was pulled included, once it is whole.
func (c *cable) carry(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-c.whole()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			// Also the end of a connection does not get through a pulled cable.
			_ = to.Close()
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
	}
}

func (c *cable) whole() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pulled
}

func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulled = make(chan struct{})
}

func (c *cable) plug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !closed(c.pulled) {
		close(c.pulled)
	}
}

func (c *cable) close() {
	c.plug()
	c.mu.Lock()
	c.gone = true
	_ = c.listener.Close()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.running.Wait()
}
