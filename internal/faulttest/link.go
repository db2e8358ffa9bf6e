package faulttest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The first message of a connection has no type byte, and one of these codes in place of a protocol version when it is not a
// startup message.
const (
	codeCancel = 80877102
	codeTLS    = 80877103
	codeGSS    = 80877104
	// largestMessage is the protocol's own limit, 1 GiB; more means that we lost track of the message boundaries.
	largestMessage = 1 << 30
)

var errCut = errors.New("the connection has been cut")

// message is one protocol message: its type (0 for a first message) and all its bytes.
type message struct {
	kind byte
	raw  []byte
}

// body is what follows type and length.
func (m message) body() []byte {
	if m.kind == 0 {
		return m.raw[4:]
	}
	return m.raw[5:]
}

// link is one client's connection and the one to the server that belongs to it.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	fromClient     *bufio.Reader
	fromServer     *bufio.Reader
	talk           conversation // used by the client's direction only
	once           sync.Once
	closed         chan struct{}
	mu             sync.Mutex    // guards what follows
	gate           chan struct{} // not nil while stalled; closed by resume
	asked          int           // ReadyForQuery messages that the server owes us in all, the one after login included
	answered       int           // those it has sent
	doomed         int           // CutAfter: the link ends with this ReadyForQuery, and nothing after the one before it passes; 0 no
	doomedEarly    bool          // the client asked for an answer without ending the doomed batch (Flush)
}

func newLink(p *Proxy, client, server net.Conn) *link {
	return &link{
		proxy: p, client: client, server: server, closed: make(chan struct{}), asked: 1,
		fromClient: bufio.NewReader(client), fromServer: bufio.NewReader(server), talk: newConversation(),
	}
}

// run forwards until one side ends.
func (l *link) run() {
	if err := l.login(); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.end(l.pump(l.fromServer, l.client, l.serverMessage))
	}()
	l.end(l.pump(l.fromClient, l.server, l.clientMessage))
	<-done
}

// login forwards the first message, after answering requests for encryption with no.
func (l *link) login() error {
	for {
		first, err := read(l.fromClient, true)
		if err != nil {
			return err
		}
		if len(first.body()) < 4 {
			return errors.New("a first message without a protocol version")
		}
		switch binary.BigEndian.Uint32(first.body()) {
		case codeTLS, codeGSS:
			if _, err := l.client.Write([]byte("N")); err != nil {
				return fmt.Errorf("refuse encryption: %w", err)
			}
			continue
		case codeCancel: // nothing follows, and the server answers by closing
			_, err := l.server.Write(first.raw)
			_, _ = io.Copy(io.Discard, l.fromServer) //nolint:errcheck // any end will do
			return errors.Join(err, errCut)
		}
		_, err = l.server.Write(first.raw)
		return err
	}
}

// pump reads messages and forwards those that inspect does not keep back, until an error ends the link.
//
//nolint:gocognit // one loop: read, decide, forward, flush
func (l *link) pump(from *bufio.Reader, to io.Writer, inspect func(message) (forward bool, err error)) error {
	out := bufio.NewWriter(to)
	for {
		next, err := read(from, false)
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		if err := l.pass(); err != nil {
			return err
		}
		forward, err := inspect(next)
		if forward {
			if _, err := out.Write(next.raw); err != nil {
				return fmt.Errorf("forward a message: %w", err)
			}
		}
		if err != nil || from.Buffered() == 0 {
			if err := errors.Join(err, out.Flush()); err != nil {
				return err
			}
		}
	}
}

// read reads one message however it is cut into packets.
func read(from *bufio.Reader, first bool) (message, error) {
	var m message
	start := make([]byte, 5)
	if first {
		start = start[:4]
	}
	if _, err := io.ReadFull(from, start); err != nil {
		return m, fmt.Errorf("read a message's start: %w", err)
	}
	if !first {
		m.kind = start[0]
	}
	length := binary.BigEndian.Uint32(start[len(start)-4:])
	if length < 4 || length > largestMessage {
		return m, fmt.Errorf("a message of %d bytes", length)
	}
	var whole bytes.Buffer // grows with what arrives: a length alone must not allocate
	whole.Write(start)
	if _, err := io.CopyN(&whole, from, int64(length)-4); err != nil {
		return m, fmt.Errorf("read a message: %w", err)
	}
	m.raw = whole.Bytes()
	return m, nil
}

// clientMessage follows what the client executes and cuts where a rule says so.
func (l *link) clientMessage(m message) (forward bool, err error) {
	if doomed, ended := l.isDoomed(); doomed && ended {
		// The fatal batch is complete. What the client pipelined after it must not run; the rows of a COPY belong to it.
		return m.kind == 'd' || m.kind == 'c' || m.kind == 'f', nil
	}
	if statement, executes := l.talk.follow(m); executes {
		mode, cut := l.proxy.decide(statement)
		if cut && mode == CutBefore {
			l.proxy.hit()
			return false, errCut
		}
		if cut {
			l.doom()
		}
	}
	l.note(m.kind)
	return true, nil
}

// note counts the answers that the server will owe.
func (l *link) note(kind byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch kind {
	case 'Q', 'S', 'F':
		l.asked++
	case 'H':
		l.doomedEarly = l.doomed != 0
	}
}

// doom makes the link end with the answer to the message that comes now.
func (l *link) doom() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doomed == 0 {
		l.doomed = l.asked + 1
	}
}

// isDoomed also reports whether the client has sent all of the batch that the link ends with.
func (l *link) isDoomed() (doomed, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doomed != 0, l.asked >= l.doomed
}

// serverMessage keeps back the answer to a doomed batch and ends the link with it.
func (l *link) serverMessage(m message) (forward bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fatal := l.doomed != 0 && l.answered == l.doomed-1
	if m.kind == 'Z' {
		l.answered++
	}
	if !fatal {
		return true, nil
	}
	complete := m.kind == 'Z'
	if l.doomedEarly && l.asked < l.doomed { // after a Flush there is no ReadyForQuery to wait for
		complete = m.kind == 'C' || m.kind == 'I' || m.kind == 's' || m.kind == 'E'
	}
	if !complete {
		// A COPY's rows come from the client, which waits to be asked for them.
		return m.kind == 'G', nil
	}
	l.proxy.hit()
	return false, errCut
}

// pass waits while the link is stalled.
func (l *link) pass() error {
	for {
		l.mu.Lock()
		gate := l.gate
		l.mu.Unlock()
		if gate == nil {
			return nil
		}
		select {
		case <-gate:
		case <-l.closed:
			return errCut
		}
	}
}

func (l *link) stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate == nil {
		l.gate = make(chan struct{})
	}
}

func (l *link) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate != nil {
		close(l.gate)
		l.gate = nil
	}
}

// end closes both connections because one direction ended with that error: as a cut if a rule said so, else in an orderly way,
// so that a client still reads why the server hung up.
func (l *link) end(err error) {
	if errors.Is(err, errCut) {
		l.cut()
		return
	}
	l.close(func() { _ = l.client.Close() }) // one side is gone already
}

// cut ends both connections: the client's by a reset; the server's by its end, so that it still reads what it was sent.
func (l *link) cut() { l.close(func() { reset(l.client) }) }

func (l *link) close(closeClient func()) {
	l.once.Do(func() {
		close(l.closed)
		closeClient()
		_ = l.server.Close() // there is nobody to tell
	})
}

// reset closes a TCP connection with RST, as a firewall or a crashed machine does.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) //nolint:errcheck // if that fails, the client sees an end instead of a reset
	}
	_ = conn.Close()
}
