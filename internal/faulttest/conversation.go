package faulttest

import "bytes"

// conversation follows a client's extended protocol far enough to know which statement an Execute runs.
type conversation struct {
	statements map[string]string // prepared statement, "" the unnamed one -> text
	portals    map[string]string // portal -> text of the statement it was bound to
}

func newConversation() conversation {
	return conversation{statements: map[string]string{}, portals: map[string]string{}}
}

// follow takes the client's next message and returns the statement that it executes, if it executes one.
func (c *conversation) follow(m message) (statement string, executes bool) {
	body := m.body()
	switch m.kind {
	case 'Q': // text
		return text(&body), true
	case 'P': // statement name, text, parameter types
		name := text(&body)
		c.statements[name] = text(&body)
	case 'B': // portal, statement name, parameters
		portal := text(&body)
		c.portals[portal] = c.statements[text(&body)]
	case 'E': // portal, row limit
		return c.portals[text(&body)], true
	case 'C': // 'S' or 'P', name
		if len(body) > 1 {
			kind, rest := body[0], body[1:]
			if kind == 'S' {
				delete(c.statements, text(&rest))
			} else {
				delete(c.portals, text(&rest))
			}
		}
	}
	return "", false
}

// text takes a zero-terminated string off the front of body.
func text(body *[]byte) string {
	value, rest, _ := bytes.Cut(*body, []byte{0})
	*body = rest
	return string(value)
}
