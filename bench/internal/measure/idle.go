package measure

import (
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
)

// An Idle is what a connection costs over which nothing goes.
type Idle struct {
	Contestant *contest.Contestant
	// Client and Server are the shares of one processor that the processes use.
	Client, Server float64
	// Resident is the server's memory in bytes, with one client.
	Resident int64
	// PerConn is by how much the memory of both processes grows with each
	// further connection, in bytes.
	PerConn int64
}

// moreConns is how many connections Idles opens to see what each costs.
const moreConns = 16

// Idles watches connections on which one call was made for the time d.
func Idles(cs []*contest.Contestant, size int, d time.Duration, p Plan) ([]*Idle, error) {
	var all []*Idle
	for _, c := range cs {
		if !c.Many {
			continue
		}
		p.Progress(fmt.Sprintf("idle for %v: %s", d, c.Name))
		i, err := idle(c, size, d)
		if err != nil {
			return nil, fmt.Errorf("%s, idle: %w", c.Name, err)
		}
		all = append(all, i)
	}
	return all, nil
}

func idle(c *contest.Contestant, size int, d time.Duration) (*Idle, error) {
	e, err := start(c, size)
	if err != nil {
		return nil, err
	}
	defer e.stop()
	open := func() (contest.Session, error) {
		s, err := c.Open(e.setup)
		if err != nil {
			return nil, err
		}
		if err := s.Call(); err != nil {
			s.Close()
			return nil, err
		}
		return s, nil
	}
	s, err := open()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	// Let both fall asleep before the clock starts.
	time.Sleep(min(d/4, time.Second))
	client, server, err := e.usage()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	time.Sleep(d)
	took := time.Since(start)
	clientAfter, serverAfter, err := e.usage()
	if err != nil {
		return nil, err
	}
	for range moreConns {
		s, err := open()
		if err != nil {
			return nil, err
		}
		defer s.Close()
	}
	clientMore, serverMore, err := e.usage()
	if err != nil {
		return nil, err
	}
	return &Idle{
		Contestant: c,
		Client:     clientAfter.Sub(client).CPU.Seconds() / took.Seconds(),
		Server:     serverAfter.Sub(server).CPU.Seconds() / took.Seconds(),
		Resident:   serverAfter.Resident,
		PerConn:    (clientMore.Resident - clientAfter.Resident + serverMore.Resident - serverAfter.Resident) / moreConns,
	}, nil
}
