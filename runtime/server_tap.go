package ipc

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipcgen/ipcgen/runtime/introspect"
)

// This file shows the calls of a server to taps. A goroutine that handles a message never waits for
// a tap: a record that the tap cannot take at once is lost, and counted.

// Limits of taps.
const (
	maxTaps    = 4       // of a server
	tapBytes   = 4 << 20 // that wait in a tap
	tapRecords = 1 << 14 // likewise
	tapWait    = time.Second
	// around is an upper bound for the bytes of a record besides its body, its text and its names.
	around = 160
)

// A tapRecord is a TapRecord of package introspect without its body.
type tapRecord struct {
	kind             introspect.TapKind
	route            *boundRoute
	pid              int
	call, seq, epoch uint64
	at               time.Time
	code             Code
	outcome          Outcome
	duration         time.Duration
}

// A tap takes copies of calls and messages until a tool reads them.
type tap struct {
	number  uint64
	owner   *serverConn
	methods []string // "protocol/name"; none: all
	maxBody int
	items   bool // those of streaming calls, too
	lost    atomic.Uint64
	bytes   atomic.Int64 // of the records that wait
	records chan *introspect.TapRecordT

	mu   sync.Mutex             // of readers
	next *introspect.TapRecordT // did not fit into the last reply; nil if there is none
}

func (t *tap) wants(r *boundRoute) bool {
	if len(t.methods) == 0 {
		return true
	}
	return slices.ContainsFunc(t.methods, func(name string) bool {
		protocol, method, _ := strings.Cut(name, "/")
		return method == r.name && protocol == r.protocol.Name
	})
}

// offer copies a record, unless the tap is full.
func (t *tap) offer(r *tapRecord, body []byte) {
	cut := body[:min(len(body), t.maxBody)]
	size := int64(len(cut))
	if t.bytes.Add(size) > tapBytes {
		t.bytes.Add(-size)
		t.lost.Add(1)
		return
	}
	record := &introspect.TapRecordT{Kind: r.kind, Call: r.call, At: r.at.UnixNano(),
		Pid: uint32(r.pid), Protocol: r.route.protocol.Name, Name: r.route.name, Seq: r.seq,
		Epoch: r.epoch, Length: uint32(len(body)), Code: uint32(r.code),
		Outcome: uint8(r.outcome), Duration: uint64(r.duration)}
	if r.code != CodeOK {
		record.Text, record.Length = strings.ToValidUTF8(string(cut), "\ufffd"), 0
	} else {
		record.Body = slices.Clone(cut)
	}
	t.bytes.Add(bodyOf(record) - size)
	select {
	case t.records <- record:
	default:
		t.bytes.Add(-bodyOf(record))
		t.lost.Add(1)
	}
}

// bodyOf returns the memory of the parts of a record that can be long. A text can have grown.
func bodyOf(r *introspect.TapRecordT) int64 { return int64(len(r.Body) + len(r.Text)) }

// take removes records that fit into a reply of so many bytes, at least one if there is one. If
// there is none, it waits until wait is done.
func (t *tap) take(limit int, wait <-chan struct{}) (taken []*introspect.TapRecordT) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := 0
	for {
		r := t.next
		t.next = nil
		if r == nil {
			select {
			case r = <-t.records:
			default:
				if len(taken) > 0 {
					return taken
				}
				select {
				case r = <-t.records:
				case <-wait:
					return nil
				}
			}
			t.bytes.Add(-bodyOf(r))
		}
		size += around + int(bodyOf(r)) + len(r.Protocol) + len(r.Name)
		if len(taken) > 0 && size > limit {
			t.next = r
			return taken
		}
		taken = append(taken, r)
	}
}

func (c *serverConn) openTap(_ context.Context, req *introspect.OpenTapT) (*introspect.TapT,
	error) {
	p := &c.srv.lookout
	t := &tap{owner: c, methods: req.Methods, items: req.Items,
		records: make(chan *introspect.TapRecordT, tapRecords),
		maxBody: max(0, min(int(req.MaxBody), tapBytes/4, c.tx.limit/2-2*around))}
	p.mu.Lock()
	defer p.mu.Unlock()
	// A client that leaves later has its taps closed later.
	if c.down.Load() != nil {
		return nil, Errorf(CodeUnavailable, "the client is gone")
	}
	if len(p.taps) >= maxTaps {
		return nil, &Error{Code: CodeResourceExhausted, Outcome: NotExecuted,
			Msg: "the server has four taps already; close one of them"}
	}
	p.last++
	t.number = p.last
	p.taps = append(slices.Clip(p.taps), t)
	p.publish()
	return &introspect.TapT{Number: t.number}, nil
}

// closeTaps closes the taps that a client has opened, or the one of them with the given number.
func (p *lookout) closeTaps(owner *serverConn, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := slices.DeleteFunc(slices.Clone(p.taps), func(t *tap) bool {
		return t.owner == owner && (number == 0 || t.number == number)
	})
	if len(rest) < len(p.taps) {
		p.taps = rest
		p.publish()
	}
}

func (c *serverConn) closeTap(_ context.Context, req *introspect.CloseTapT) (
	*introspect.TapClosedT, error) {
	if req.Number != 0 {
		c.srv.lookout.closeTaps(c, req.Number)
	}
	return &introspect.TapClosedT{}, nil
}

func (c *serverConn) readTap(ctx context.Context, req *introspect.ReadTapT) (
	*introspect.TapRecordsT, error) {
	t := c.srv.lookout.find(c, req.Number)
	if t == nil {
		return nil, Errorf(CodeNotFound, "this connection has no tap %d", req.Number)
	}
	wait, cancel := context.WithTimeout(ctx, min(max(0, time.Duration(req.Wait)), tapWait))
	defer cancel()
	defer context.AfterFunc(c.srv.closing, cancel)()
	records := t.take(c.tx.limit/2, wait.Done())
	return &introspect.TapRecordsT{Records: records, Lost: t.lost.Load()}, nil
}

// find returns a tap of a client, or nil.
func (p *lookout) find(owner *serverConn, number uint64) *tap {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.taps {
		if t.owner == owner && t.number == number {
			return t
		}
	}
	return nil
}
