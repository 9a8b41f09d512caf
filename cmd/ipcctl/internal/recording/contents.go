package recording

import (
	"errors"
	"fmt"
	"io"
)

// Contents are what a recording has, in numbers.
type Contents struct {
	First, Last int64 // times, in nanoseconds since 1970 (UTC); 0 for an empty recording
	Sources     map[string]*Source
	// Cut is the error with which the file ends before its end, or nil.
	Cut error
}

// A Source is a name that was recorded.
type Source struct {
	Methods map[string]*Method // and messages, by their full names
	Servers int                // processes that had the name
	Lost    uint64             // records
	// Topics are those of requests, messages and items, and those that were published.
	Topics []*Topic
}

// A Method counts the calls of a method, or the messages of a kind.
type Method struct {
	Kind     string           `json:"kind"`
	Requests int64            `json:"requests"` // that the file has; messages of a topic
	Items    int64            `json:"items,omitempty"`
	Ended    int64            `json:"ended"`
	Errors   map[string]int64 `json:"errors,omitempty"`   // by code
	TooLong  int64            `json:"too_long,omitempty"` // that ended, and whose requests it lacks
	Longest  int              `json:"-"`                  // message of a topic
}

// Open returns the number of requests whose ends the file lacks.
func (m *Method) Open() int64 {
	if m.Kind == KindTopic {
		return 0
	}
	return max(0, m.Requests+m.TooLong-m.Ended)
}

// Scan reads a recording from its start to its end. The error of a file that is cut off is in the
// contents.
func Scan(path string) (*Contents, error) {
	file, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c := &Contents{Sources: make(map[string]*Source)}
	known := make(map[*Topic]bool)
	for {
		r, err := file.Next()
		switch {
		case err == io.EOF:
			return c, nil
		case errors.Is(err, ErrCut):
			c.Cut = err
			return c, nil
		case err != nil:
			return nil, err
		}
		if err := c.add(r); err != nil {
			return nil, file.fail(ErrDamaged, err)
		}
		switch t := r.Topic; t.Kind {
		case Request, Message, RequestItem, ReplyItem, Published:
			if !known[t] {
				known[t] = true
				c.Sources[t.Source].Topics = append(c.Sources[t.Source].Topics, t)
			}
		}
	}
}

// add counts a record.
func (c *Contents) add(r *Record) error {
	if c.First == 0 || r.At < c.First {
		c.First = r.At
	}
	c.Last = max(c.Last, r.At)
	s := c.Sources[r.Topic.Source]
	if s == nil {
		s = &Source{Methods: make(map[string]*Method)}
		c.Sources[r.Topic.Source] = s
	}
	switch r.Topic.Kind {
	case Request:
		return s.count(r.Topic.Full(), KindCall, func(m *Method) { m.Requests++ })
	case Message:
		return s.count(r.Topic.Full(), KindMessage, func(m *Method) { m.Requests++ })
	case RequestItem, ReplyItem:
		return s.count(r.Topic.Full(), KindStream, func(m *Method) { m.Items++ })
	case Published:
		return s.count(r.Topic.Full(), KindTopic, func(m *Method) {
			m.Requests++
			m.Longest = max(m.Longest, len(r.Data))
		})
	case Calls:
		call, err := r.Call()
		if err != nil {
			return err
		}
		if call.Open {
			return s.count(call.Method, call.Kind, func(m *Method) { m.Requests++ })
		}
		return s.count(call.Method, call.Kind, func(m *Method) { m.end(call) })
	case Status:
		e, err := r.Event()
		if err != nil {
			return err
		}
		s.Lost = max(s.Lost, e.Lost)
		if e.Event == Watching {
			s.Servers++
		}
	}
	return nil
}

// maxMethods and maxCodes limit what a file can make a Scan remember.
const (
	maxMethods = 1 << 16
	maxCodes   = 100
)

func (s *Source) count(name, kind string, one func(*Method)) error {
	m := s.Methods[name]
	if m == nil {
		if len(s.Methods) >= maxMethods {
			return fmt.Errorf("more than %d methods", maxMethods)
		}
		m = &Method{Errors: make(map[string]int64)}
		s.Methods[name] = m
	}
	if m.Kind != KindStream { // its request does not tell
		m.Kind = kind
	}
	one(m)
	return nil
}

func (m *Method) end(c *Call) {
	m.Ended++
	if !c.OK() && (m.Errors[c.Code] > 0 || len(m.Errors) < maxCodes) {
		m.Errors[c.Code]++
	}
	if c.NoRequest {
		m.TooLong++
	}
}

// codeOK is the code of a call that succeeded.
const codeOK = "ok"

// OK reports whether the call succeeded.
func (c *Call) OK() bool { return c.Code == codeOK }
