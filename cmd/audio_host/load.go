package main

import (
	"fmt"
	"time"

	"github.com/ipcgen/ipcgen/internal/dsp"
	"github.com/ipcgen/ipcgen/internal/sys"
	"github.com/ipcgen/ipcgen/internal/wave"
)

// A load is processor time: of this process, and of all processes that were a replica. Stolen is
// what the machine below has kept from all of this machine.
type load struct {
	host, replicas, stolen time.Duration
	took                   time.Duration // the time that passed
}

// spent returns the load until now.
func (s *studio) spent() load {
	l := load{replicas: sys.ChildrenProcessorTime(), stolen: sys.StolenTime()}
	l.host, _ = sys.ProcessorTime(0) // cannot fail for this process
	for _, r := range s.group.Status().Replicas {
		if d, err := sys.ProcessorTime(r.PID); r.PID != 0 && err == nil {
			l.replicas += d
		}
	}
	return l
}

// since returns the load from one moment to another, between which so much time has passed.
func (l load) since(before load, took time.Duration) load {
	return load{l.host - before.host, l.replicas - before.replicas, l.stolen - before.stolen, took}
}

// share returns d as a part of one processor.
func (l load) share(d time.Duration) string {
	return fmt.Sprintf("%.1f %%", 100*float64(d)/float64(max(l.took, 1)))
}

// measureAlone returns what the signal path takes for a block in this process, without any other.
func measureAlone(f wave.Format, frames int) time.Duration {
	c, err := dsp.NewChain(f.Rate, f.Channels, dsp.InitialValues())
	if err != nil {
		return 0 // the format was good enough for the sound
	}
	block := make([]byte, 4*f.Channels*frames)
	rounds := max(10, 200_000/frames)
	begin := time.Now()
	for range rounds {
		_ = c.Process(block, block, nil) // fits by its making
	}
	return time.Since(begin) / time.Duration(rounds)
}
