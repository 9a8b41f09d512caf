package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/contest"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// A Place is what two processes may use of the machine.
type Place struct {
	Name string
	env  []string
	// start starts the client, whose server inherits what it is left.
	start func(*exec.Cmd) error
}

// Places are those in which a transport that waits by spinning might go wrong:
// with one goroutine at a time in each process, with one processor for both, and
// with one of which Go does not know.
func Places() []Place {
	return []Place{
		{Name: "free", start: peer.StartAnywhere},
		{Name: "GOMAXPROCS=1 each", env: []string{"GOMAXPROCS=1"}, start: peer.StartAnywhere},
		{Name: "one processor", start: peer.StartOnFirst},
		{Name: "one, GOMAXPROCS=2", env: []string{"GOMAXPROCS=2", peer.PinToFirst},
			start: peer.StartAnywhere},
	}
}

// A Placed is the round trips of one contestant in one place.
type Placed struct {
	Contestant *contest.Contestant
	Place      Place
	// Err is why there is nothing else.
	Err error
	// By round and sorted.
	Medians, P99s []time.Duration
}

// AllPlaced measures the round trips of size bytes in all places, by rounds.
// There client and server are both processes of their own, since what a process
// may use is settled when it starts. The error is that of the measurements that
// failed, which are among the others.
func AllPlaced(cs []*contest.Contestant, size int, p Plan) ([]*Placed, error) {
	var all []*Placed
	for _, c := range cs {
		for _, place := range Places() {
			all = append(all, &Placed{Contestant: c, Place: place})
		}
	}
	for round := range p.Rounds {
		for _, l := range all {
			if l.Err != nil {
				continue
			}
			p.Progress(fmt.Sprintf("%s, round %d of %d: %s", l.Place.Name, round+1, p.Rounds,
				l.Contestant.Name))
			l.Err = Again(func() error { return l.turn(size, p) })
		}
	}
	var failed []error
	for _, l := range all {
		slices.Sort(l.Medians)
		slices.Sort(l.P99s)
		failed = append(failed, failure(l.Err, "%s, %s", l.Contestant.Name, l.Place.Name))
	}
	return all, errors.Join(failed...)
}

// envTurn makes a process the client of one turn.
const envTurn = "IPCGEN_BENCH_TURN"

// A turn is what such a process is told.
type turn struct {
	Key        string
	Size       int
	Warm, Turn time.Duration
}

// An outcome is what it prints.
type outcome struct{ Median, P99 time.Duration }

func (l *Placed) turn(size int, p Plan) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	what, err := json.Marshal(turn{l.Contestant.Key, size, p.Warm, p.Turn})
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=", peer.PinNowhere, envTurn+"="+string(what))
	cmd.Env = append(cmd.Env, l.Place.env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := l.Place.start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("client: %w: %s", err, stderr.String())
	}
	var o outcome
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		return err
	}
	l.Medians, l.P99s = append(l.Medians, o.Median), append(l.P99s, o.P99)
	return nil
}

// Main turns the process into the client of one turn if its environment says
// so, and then does not return.
func Main() {
	what, ok := os.LookupEnv(envTurn)
	if !ok {
		return
	}
	if err := oneTurn(what); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func oneTurn(what string) error {
	var t turn
	if err := json.Unmarshal([]byte(what), &t); err != nil {
		return err
	}
	c := contest.Find(t.Key)
	if c == nil {
		return fmt.Errorf("there is no contestant %q", t.Key)
	}
	if err := peer.KeepPlace(); err != nil {
		return err
	}
	l := &Latency{Contestant: c, Size: t.Size, Hist: newHistogram()}
	if err := l.turn(Plan{Warm: t.Warm, Turn: t.Turn}, clockCost()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(outcome{l.Quantile(50), l.Quantile(99)})
}
