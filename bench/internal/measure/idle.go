package measure

import (
	"errors"
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// An Idle is what connections cost over which nothing goes.
type Idle struct {
	Contestant *contest.Contestant
	// Err is why there is nothing else.
	Err error
	// One and Many are the shares of one processor that the processes use with
	// one connection and with ManyConns.
	One, Many IdleCPU
	// Resident is the server's memory in bytes, with one client.
	Resident int64
	// PerConn is by how much the memory of both processes grows with each
	// further connection, in bytes.
	PerConn int64
}

// IdleCPU is what two processes with nothing to do take of one processor.
type IdleCPU struct{ Client, Server float64 }

// ManyConns is how many connections Idles opens in the end.
const ManyConns = 100

// Idles watches connections on which one call was made for the time d, twice.
// The error is that of the contestants that failed, which are among the others.
func Idles(cs []*contest.Contestant, size int, d time.Duration, p Plan) ([]*Idle, error) {
	var all []*Idle
	var failed []error
	for _, c := range cs {
		p.Progress(fmt.Sprintf("idle for %v: %s", 2*d, c.Name))
		i := &Idle{Contestant: c}
		i.Err = Again(func() error { return i.watch(size, d) })
		failed = append(failed, failure(i.Err, "%s, idle", c.Name))
		all = append(all, i)
	}
	return all, errors.Join(failed...)
}

func (i *Idle) watch(size int, d time.Duration) error {
	e, err := start(i.Contestant, size)
	if err != nil {
		return err
	}
	defer e.stop()
	var sessions []contest.Session
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	open := func(n int) error {
		for len(sessions) < n {
			s, err := i.Contestant.Open(e.setup)
			if err != nil {
				return err
			}
			sessions = append(sessions, s)
			if err := s.Call(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := open(1); err != nil {
		return err
	}
	var one, many memory
	if i.One, one, err = e.rest(d); err != nil {
		return err
	}
	if err := open(ManyConns); err != nil {
		return err
	}
	if i.Many, many, err = e.rest(d); err != nil {
		return err
	}
	i.Resident = one.server
	i.PerConn = (many.client + many.server - one.client - one.server) / (ManyConns - 1)
	return nil
}

// memory is what two processes hold, in bytes.
type memory struct{ client, server int64 }

// rest does nothing for the time d and returns what that took, and the memory
// then.
func (e *encounter) rest(d time.Duration) (cpu IdleCPU, mem memory, err error) {
	time.Sleep(min(d/4, time.Second)) // let both fall asleep before the clock starts
	client, server, err := e.usage()
	if err != nil {
		return cpu, mem, err
	}
	start := time.Now()
	time.Sleep(d)
	took := time.Since(start).Seconds()
	clientAfter, serverAfter, err := e.usage()
	if err != nil {
		return cpu, mem, err
	}
	cpu.Client = clientAfter.Sub(client).CPU.Seconds() / took
	cpu.Server = serverAfter.Sub(server).CPU.Seconds() / took
	mem.client = peer.Memory()
	mem.server, err = e.server.Memory()
	return cpu, mem, err
}
