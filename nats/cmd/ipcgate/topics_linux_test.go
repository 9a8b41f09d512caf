package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// gateEnv makes the test binary ipcgate, and publisherEnv makes it a publisher in a domain.
const (
	gateEnv      = "IPCGATE_TEST_GATE"
	publisherEnv = "IPCGATE_TEST_PUBLISHER"
)

// publishForever publishes position after position, some at a time.
func publishForever(p *audio.LevelsPublisher, some int) {
	for m := (audio.LevelsT{SampleRate: uint32(os.Getpid())}); ; time.Sleep(time.Millisecond) {
		for range some {
			// On a standby it fails.
			if err := p.Publish(context.Background(), &m); err == nil {
				m.Position++
			}
		}
	}
}

// publishLevels serves a publisher of levels, and calls.
func publishLevels(domain string) error {
	p := audio.NewLevelsPublisher(topic.Options{})
	l, err := ipc.Listen("meters", ipc.WithDomain(domain))
	if err != nil {
		return err
	}
	go publishForever(p, 10)
	srv := ipc.NewServer(p, audio.NewAudioControlService(pidTeller{}))
	return srv.Serve(context.Background(), l)
}

// start makes the test binary a process that env describes. The test kills it at its end.
func start(t *testing.T, env string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	var stderr bytes.Buffer
	cmd.Env, cmd.Stderr = append(os.Environ(), env), &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if stderr.Len() > 0 {
				t.Logf("%s: %s", env, &stderr)
			}
		}
	}
	t.Cleanup(kill)
	return kill
}

// gate is the environment of a process that runs ipcgate.
func gate(args ...string) string { return gateEnv + "=" + strings.Join(args, " ") }

// A reader reads levels, and checks that what it lost and what came is all that there was between
// two breaks.
type reader struct {
	t       *testing.T
	ctx     context.Context
	s       *audio.LevelsSubscription
	inPlace bool

	next uint64
	seen bool
	pid  uint32 // of the publisher
	lost uint64
}

func newReader(t *testing.T, domain string, o topic.SubscribeOptions) *reader {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(stop)
	s, err := audio.SubscribeLevels(ctx, topic.Channel("near", ipc.WithDomain(domain)), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &reader{t: t, ctx: ctx, s: s, inPlace: o.InPlace}
}

// read returns the next message's arrival.
func (r *reader) read() (a topic.Arrival) {
	r.t.Helper()
	var at uint64
	var pid uint32
	var err error
	if r.inPlace {
		err = r.s.Read(r.ctx, func(m *audio.Levels, told topic.Arrival) error {
			a, at, pid = told, m.Position(), m.SampleRate()
			return nil
		})
	} else {
		var m audio.LevelsT
		a, err = r.s.Next(r.ctx, &m)
		at, pid = m.Position, m.SampleRate
	}
	switch {
	case err != nil:
		r.t.Fatal(err)
	case a.Number != at:
		r.t.Fatalf("message %d has the number %d", at, a.Number)
	case r.seen && !a.Break && (a.Number != r.next+a.Lost || pid != r.pid):
		r.t.Fatalf("%+v behind %d, of process %d behind %d", a, r.next-1, pid, r.pid)
	}
	r.next, r.seen, r.pid = a.Number+1, true, pid
	r.lost += a.Lost
	return a
}

// TestTopicsThroughProcesses has a publisher, the two gates and a subscriber in a process each. Any
// of the others is killed, and so is the NATS server: the subscriber goes on, its numbers are those
// of the publisher, and what it lost and what came is all that there was between two breaks.
func TestTopicsThroughProcesses(t *testing.T) {
	broker := natstest.Start(t)
	there, here := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "d")
	publisher := publisherEnv + "=" + there
	export := gate("export", "-nats", broker.ClientURL(), "-domain", there, "far=meters")
	imported := gate("import", "-nats", broker.ClientURL(), "-domain", here, "far=near")
	kills := map[string]func(){}
	for _, env := range []string{publisher, export, imported} {
		kills[env] = start(t, env)
	}
	r := newReader(t, here, topic.SubscribeOptions{})
	r.read()
	for _, env := range []string{publisher, export, imported, publisher, imported, export} {
		kills[env]()
		kills[env] = start(t, env)
		for !r.read().Break {
		}
		for range 20 {
			r.read()
		}
	}
	broker.Restart(t)
	after := time.Now()
	for !r.read().Published.After(after) {
	}
}

// TestTopicsOfGroup exports a group whose primaries are killed. A subscriber on the other side of
// the gateway, which reads in place, follows each next one.
func TestTopicsOfGroup(t *testing.T) {
	broker := natstest.Start(t)
	there, here := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "d")
	g := startEngine(t, there)
	defer g.Shutdown(context.Background())
	start(t, gate("export", "-nats", broker.ClientURL(), "-domain", there, "far=group:engine"))
	start(t, gate("import", "-nats", broker.ClientURL(), "-domain", here, "far=near"))
	r := newReader(t, here, topic.SubscribeOptions{InPlace: true})
	r.read()
	for range 3 {
		first := r.pid
		if err := syscall.Kill(int(first), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for r.pid == first {
			r.read()
		}
		for range 20 {
			r.read()
		}
	}
}

// origin returns the number of the last message that the publisher has published.
func origin(t *testing.T, domain string) uint64 {
	t.Helper()
	s, err := audio.SubscribeLevels(t.Context(), topic.Channel("meters", ipc.WithDomain(domain)),
		topic.SubscribeOptions{Policy: topic.Latest})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var m audio.LevelsT
	a, err := s.Next(t.Context(), &m)
	if err != nil {
		t.Fatal(err)
	}
	return a.Number
}

// TestTopicsOverSlowLink has a link to NATS that delays, and carries less than is published: that
// of the export, and that of the import. The subscriber is told what it loses, and gets what is new
// when the link is as before, and after it was cut. Calls do not wait behind what lies on the way.
func TestTopicsOverSlowLink(t *testing.T) {
	for _, slow := range []string{"export", "import"} {
		t.Run(slow, func(t *testing.T) {
			// A broker that gives up a slow import soon.
			broker := natstest.Start(t, func(o *server.Options) { o.MaxPending = 1 << 20 })
			there, here := filepath.Join(t.TempDir(), "d"), filepath.Join(t.TempDir(), "d")
			proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil),
				zerolog.Nop()), "link", "127.0.0.1:0", broker.Addr().String())
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
			defer proxy.Stop()
			urls := map[string]string{"export": broker.ClientURL(), "import": broker.ClientURL()}
			urls[slow] = "nats://" + proxy.Listen
			start(t, publisherEnv+"="+there)
			start(t, gate("export", "-nats", urls["export"], "-domain", there, "far=meters"))
			start(t, gate("import", "-nats", urls["import"], "-domain", here, "far=near"))
			r := newReader(t, here, topic.SubscribeOptions{})
			r.read()
			disturb := func(kind, attribute string) {
				t.Helper()
				for _, way := range []string{"upstream", "downstream"} {
					toxic := fmt.Sprintf(`{"name":"%s","type":"%s","stream":"%s","toxicity":1,`+
						`"attributes":{%s}}`, way, kind, way, attribute)
					if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
						t.Fatal(err)
					}
				}
			}
			disturb("latency", `"latency":100`)
			for range 100 {
				r.read()
			}
			proxy.Toxics.ResetToxics(context.Background())
			c, err := ipc.Dial(r.ctx, "near", ipc.WithDomain(here))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			before := r.lost
			for more := uint64(50_000); r.lost == before; more *= 2 { // than lies on the way
				disturb("bandwidth", `"rate":10`)
				for until := r.next + more; origin(t, there) < until; {
					r.read()
				}
				for range 5 {
					began := time.Now()
					_, err := audio.NewAudioControlClient(c).SetParam(r.ctx, &audio.SetParamT{})
					t.Log("a call over the slow link took", time.Since(began))
					if ipc.CodeOf(err) != ipc.CodeNotFound {
						t.Fatal(err)
					}
				}
				proxy.Toxics.ResetToxics(context.Background())
				for until := origin(t, there); r.next < until; {
					r.read()
				}
			}
			isNew := func() {
				t.Helper()
				for now := time.Now(); !r.read().Published.After(now); {
				}
			}
			isNew()
			proxy.Stop()
			if err := proxy.Start(); err != nil {
				t.Fatal(err)
			}
			isNew()
		})
	}
}
