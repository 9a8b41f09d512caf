package ipc

import (
	"fmt"
	"math"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// This file bounds the memory that messages take in a server. The limits of a connection bound what
// one connection can make the server keep, and a server has many connections. So everything of some
// size that lasts longer than the reader's look at it is charged to the account of the client's
// process, and the accounts of a server have one limit together:
//
//   - a long body, from the arrival of its first piece until its handler has returned;
//   - the request of a detached call, with callCost for its goroutine;
//   - a long reply, and any reply of a detached call, until it is in the ring;
//   - a streaming call, and the buffers of its items beyond keepItems.
//
// A short message that the reader handles inline is charged nothing. Nor are one-way messages
// that wait for their handlers, unless they are long: they are as many bytes as the ring has.

// callCost is what a call takes that has a goroutine of its own, beside its messages.
const callCost = 8 << 10

// leastMessageMemory is the least default of WithMaxMessageMemory.
const leastMessageMemory = 256 << 20

// WithMaxMessageMemory limits the memory that the messages of all clients take in a server at a
// time, in bytes: long messages that arrive, requests whose handlers run, replies that wait for
// room, and items of streaming calls. What does not fit is refused with CodeResourceExhausted, and
// a one-way message is dropped and counted. The last eighth is for processes that have less than an
// eighth of it. The limit is at least that of a message. The default is a quarter of the machine's
// memory and at least 256 MiB, but no more than a quarter of the limit (memory.max) of the
// process's control group.
func WithMaxMessageMemory(n int) ServerOption {
	return serverOption(func(c *serverConfig) { c.maxMemory = n })
}

func defaultMessageMemory() int { return quarterOfMemory(leastMessageMemory) }

// quarterOfMemory returns a quarter of the machine's memory or, if that is more, least bytes, but
// no more than a quarter of what the control groups of this process allow.
func quarterOfMemory(least uint64) int {
	n := min(max(least, sys.PhysicalMemory()/4), sys.GroupMemory()/4)
	return int(min(n, math.MaxInt))
}

// An account is the memory that messages of the connections of one process take in a server. A nil
// account has no limit.
type account struct {
	limit int64
	all   *atomic.Int64 // what all accounts of the server have
	own   atomic.Int64
	conns int // connections that use the account; under Server.mu
}

// account returns the account of a process, for one more connection. The caller must hold s.mu.
func (s *Server) account(pid int) *account {
	if len(s.accounts) >= s.accountsLimit {
		for pid, a := range s.accounts {
			// Handlers may run on when the connections of their process have ended.
			if a.conns == 0 && a.own.Load() == 0 {
				delete(s.accounts, pid)
			}
		}
		// To look through all of them for each connection would make many clients slow.
		s.accountsLimit = 2*len(s.accounts) + 16
	}
	a := s.accounts[pid]
	if a == nil {
		a = &account{limit: int64(s.cfg.maxMemory), all: &s.messageBytes}
		s.accounts[pid] = a
	}
	a.conns++
	return a
}

// charge counts n bytes, or returns why there is no room for them.
func (a *account) charge(n int) *Error {
	if a == nil || n == 0 {
		return nil
	}
	for {
		all := a.all.Load()
		if why := a.excess(a.own.Load()+int64(n), all+int64(n), n); why != nil {
			return why
		}
		if a.all.CompareAndSwap(all, all+int64(n)) {
			a.own.Add(int64(n))
			return nil
		}
	}
}

// mustCharge counts n bytes of something that cannot be refused any more.
func (a *account) mustCharge(n int) {
	if a != nil {
		a.own.Add(int64(n))
		a.all.Add(int64(n))
	}
}

// release takes back what was charged.
func (a *account) release(n int) {
	if a != nil && n != 0 {
		a.own.Add(-int64(n))
		a.all.Add(-int64(n))
	}
}

// check returns why there would be no room for n more bytes, or nil.
func (a *account) check(n int) *Error {
	if a == nil {
		return nil
	}
	return a.excess(a.own.Load()+int64(n), a.all.Load()+int64(n), n)
}

// excess decides on n bytes with which the process and the server have that many bytes.
func (a *account) excess(own, all int64, n int) *Error {
	limit := a.limit
	if own-int64(n) >= limit/8 {
		limit -= limit / 8
	}
	if all <= limit {
		return nil
	}
	return &Error{Code: CodeResourceExhausted, Outcome: NotExecuted, Msg: fmt.Sprintf(
		"the messages of the server's clients take %d bytes, %d of them of this process; %d more "+
			"would exceed the limit; send less at a time, or raise WithMaxMessageMemory (%d)",
		all-int64(n), own-int64(n), n, a.limit)}
}

// discharge takes back the charge for the body of a message.
func (c *serverConn) discharge(f *frame) {
	c.account.release(f.charged)
	f.charged = 0
}

// finishJob ends a job, and takes back what it was charged. No other goroutine may use the job.
func (c *serverConn) finishJob(j *job) {
	c.returned(j)
	c.dischargeCall(j)
	c.dischargeReply(j)
	j.finish()
}

// dischargeCall takes back the charges for a call but for its reply.
func (c *serverConn) dischargeCall(j *job) {
	c.discharge(&j.frame)
	c.account.release(j.charged)
	j.charged = 0
}

// chargeReply charges the reply of a call, which takes size bytes of memory, unless it is the short
// one of a call that the reader runs. A short one is refused only if its client does not read.
func (c *serverConn) chargeReply(j *job, size int) *Error {
	short, charged := size <= keepShort, j.replyCharged
	switch {
	case short && c.detachedCount.Load() == 0 && j.streaming == nil:
		return nil
	case size <= charged:
		c.account.release(charged - size)
	case short && !c.tx.hasWaiters():
		c.account.mustCharge(size - charged)
	default:
		if why := c.account.charge(size - charged); why != nil {
			why.Outcome = Executed
			return why
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j.replyCharged = size
	return nil
}

// dischargeReply takes back the charge for a reply.
func (c *serverConn) dischargeReply(j *job) {
	c.account.release(j.replyCharged)
	j.replyCharged = 0
}

// mayRefuse reports whether refuseLong answers messages of a kind. The body of an end is not used.
func mayRefuse(kind uint32) bool {
	return kind == record.Request || kind == record.Open || kind == record.Item ||
		kind == record.Message
}

// refuseLong answers a message whose body there was no memory for. It reports false if the client
// broke the protocol.
func (c *serverConn) refuseLong(f *frame, why *Error) bool {
	switch f.kind {
	case record.Request:
		if c.detachedCount.Load() == 0 || c.mayBegin(f, 0) {
			c.refuse(record.Error, f.id, why)
		}
	case record.Open:
		if used, _ := c.mayOpen(f.id, 0); used {
			c.reopened(f.id)
			return false
		}
		c.refuse(record.End, f.id, why)
	case record.Item:
		c.mu.Lock()
		flow := c.streams[f.id]
		c.mu.Unlock()
		if flow != nil {
			flow.refuse(why)
		}
	case record.Message:
		c.stats.dropped.Add(1)
		c.log.Warn("message dropped", "err", why)
	}
	return true
}
