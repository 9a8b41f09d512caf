package natsipc_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
	"github.com/ipcgen/ipcgen/runtime/registry"
)

// groupWatchdog ends a test of a group that hangs.
const groupWatchdog = 5 * time.Minute

func groupConn(t testing.TB, s *natstest.Server) *nats.Conn {
	t.Helper()
	nc, err := natsipc.Connect(s.ClientURL(), nats.ReconnectWait(20*time.Millisecond),
		nats.Timeout(groupWatchdog))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func groupServer(t testing.TB) *natstest.Server {
	return natstest.Start(t, natstest.JetStream(t.TempDir()))
}

// listConfig returns the configuration of a member of the list's group. Its lease outlasts a
// machine that stands still for a second or two, in which a change in flight would otherwise get an
// unknown outcome.
func listConfig(member string, l *list) natsipc.GroupConfig {
	return natsipc.GroupConfig{Group: "test.list", Member: member, State: l,
		Lease: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)}
}

// joinList adds a member of the list's group, which ends with the test.
func joinList(t testing.TB, nc *nats.Conn, cfg natsipc.GroupConfig, l *list) *natsipc.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), groupWatchdog)
	defer cancel()
	m, err := natsipc.JoinGroup(ctx, nc, cfg, l.service())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeMember(t, m) })
	return m
}

func closeMember(t testing.TB, m *natsipc.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), groupWatchdog)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Errorf("close %s: %v", m.Name(), err)
	}
}

func dialList(t testing.TB, nc *nats.Conn) *natsipc.GroupClient {
	t.Helper()
	c, err := natsipc.DialGroup(t.Context(), nc, "test.list",
		natsipc.GroupDialConfig{Patience: groupWatchdog})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func appendTo(t testing.TB, c ipc.Caller, n uint64) uint64 {
	t.Helper()
	return (*invoke(t, c, methodAppend, n))[0]
}

func invoke(t testing.TB, c ipc.Caller, m *ipc.Method[words, words], w ...uint64) *words {
	t.Helper()
	req := words(w)
	rep, err := ipc.Invoke(t.Context(), c, m, &req)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(groupWatchdog); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func leaderOf(t testing.TB, members ...*natsipc.Member) int {
	t.Helper()
	at := -1
	eventually(t, "a member leads", func() bool {
		at = slices.IndexFunc(members, func(m *natsipc.Member) bool {
			role, _ := m.Role()
			return role == registry.RolePrimary
		})
		return at >= 0
	})
	return at
}

// TestGroupFollows has leaders of a group close, one after the other, under a client. Each change
// is there once, in order, and all members have it.
func TestGroupFollows(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	c := dialList(t, groupConn(t, s))
	var lists []*list
	var members []*natsipc.Member
	join := func() {
		l := &list{}
		m := joinList(t, groupConn(t, s), listConfig(fmt.Sprint("m", len(members)), l), l)
		lists, members = append(lists, l), append(members, m)
	}
	join()
	join()
	next := uint64(1)
	for range 3 {
		for range 10 {
			if got := appendTo(t, c, next); got != next {
				t.Fatalf("change %d made the list %d long", next, got)
			}
			next++
		}
		at := leaderOf(t, members...)
		join()
		closeMember(t, members[at])
		members, lists = slices.Delete(members, at, at+1), slices.Delete(lists, at, at+1)
	}
	appendTo(t, c, next)
	for i, x := range *invoke(t, c, methodAll) {
		if x != uint64(i+1) {
			t.Fatalf("number %d is %d", i+1, x)
		}
	}
	for i, l := range lists {
		eventually(t, members[i].Name()+" has the changes", func() bool {
			return len(l.copy()) == int(next)
		})
	}
}

// TestGroupSurvivesReboot ends all members and the server. What was answered is there when they are
// back, from the log and from snapshots.
func TestGroupSurvivesReboot(t *testing.T) {
	t.Parallel()
	for _, every := range []int{0, 7} {
		t.Run(fmt.Sprint("snapshot every ", every), func(t *testing.T) {
			t.Parallel()
			s := groupServer(t)
			for round := range uint64(3) {
				l := &list{ballast: 300_000}
				cfg := listConfig("a", l)
				cfg.SnapshotEvery = every
				nc := groupConn(t, s)
				m := joinList(t, nc, cfg, l)
				c := dialList(t, nc)
				for n := range uint64(20) {
					if got := appendTo(t, c, 20*round+n+1); got != 20*round+n+1 {
						t.Fatalf("change %d made the list %d long", 20*round+n+1, got)
					}
				}
				closeMember(t, m)
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				nc.Close()
				s.Restart(t)
			}
		})
	}
}

// TestGroupLateMember joins when the log begins behind a snapshot, and gets all of it.
func TestGroupLateMember(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	l := &list{}
	cfg := listConfig("a", l)
	cfg.SnapshotEvery = 5
	nc := groupConn(t, s)
	joinList(t, nc, cfg, l)
	c := dialList(t, nc)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	eventually(t, "the log is trimmed", func() bool {
		n++
		appendTo(t, c, n)
		stream, err := js.Stream(t.Context(), "ipcgen_group_test_2Elist")
		return err == nil && stream.CachedInfo().State.FirstSeq > 10
	})
	late := &list{}
	joinList(t, groupConn(t, s), listConfig("b", late), late)
	eventually(t, "the late member has the list", func() bool {
		return slices.Equal(late.copy(), l.copy())
	})
	n++
	appendTo(t, c, n)
	eventually(t, "the late member follows", func() bool { return len(late.copy()) == int(n) })
}

// TestGroupHandlersThatFail has calls whose handlers return an error, panic or end their goroutine.
// They are changes as others are, on all members, and their errors say that they were executed.
func TestGroupHandlersThatFail(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	a, b := &list{}, &list{}
	joinList(t, groupConn(t, s), listConfig("a", a), a)
	joinList(t, groupConn(t, s), listConfig("b", b), b)
	c := dialList(t, groupConn(t, s))
	for m, code := range map[*ipc.Method[words, words]]ipc.Code{methodRefuse: ipc.CodeNotFound,
		methodPanic: ipc.CodeInternal, methodExit: ipc.CodeInternal} {
		_, err := ipc.Invoke(t.Context(), c, m, &words{7})
		if ipc.CodeOf(err) != code || ipc.OutcomeOf(err) != ipc.Executed {
			t.Errorf("%s: %v", m.Info().Name, err)
		}
	}
	for _, l := range []*list{a, b} {
		eventually(t, "a member has the changes", func() bool {
			return slices.Equal(l.copy(), words{7, 7, 7})
		})
	}
}

// TestGroupAnswersOnce sends a call once more under its number. It is not executed again, by any
// leader, and has the answer of the first time.
func TestGroupAnswersOnce(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	first := &list{}
	m := joinList(t, groupConn(t, s), listConfig("a", first), first)
	c := dialList(t, groupConn(t, s))
	repeat := func(n uint64) uint64 {
		rep := new(words)
		err := c.Invoke(t.Context(), ipc.Call{Method: methodRepeat.Info(), Seq: 1000,
			Request: &words{n}, Reply: rep})
		if err != nil {
			t.Fatal(err)
		}
		return (*rep)[0]
	}
	for range 3 {
		if got := repeat(5); got != 1 {
			t.Errorf("the list is %d long", got)
		}
	}
	next := &list{}
	joinList(t, groupConn(t, s), listConfig("b", next), next)
	closeMember(t, m)
	if got := repeat(5); got != 1 {
		t.Errorf("at the next leader, the list is %d long", got)
	}
	if all := *invoke(t, c, methodAll); !slices.Equal(all, words{5}) {
		t.Errorf("the list is %v", all)
	}
}

// TestGroupWithoutState has no log: only the leader executes calls.
func TestGroupWithoutState(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	var members []*natsipc.Member
	lists := []*list{{}, {}}
	for i, l := range lists {
		cfg := listConfig(fmt.Sprint(i), l)
		cfg.State = nil
		members = append(members, joinList(t, groupConn(t, s), cfg, l))
	}
	c := dialList(t, groupConn(t, s))
	appendTo(t, c, 1)
	appendTo(t, c, 2)
	at := leaderOf(t, members...)
	if len(lists[at].copy()) != 2 || len(lists[1-at].copy()) != 0 {
		t.Errorf("lists %v and %v", lists[0].copy(), lists[1].copy())
	}
	closeMember(t, members[at])
	if got := appendTo(t, c, 3); got != 1 {
		t.Errorf("the next leader has a list of %d", got)
	}
}

// removes is a command of an error that removes a stream.
var removes = regexp.MustCompile(`"nats stream rm (\S+)"`)

// TestGroupBadWeather joins groups that cannot be. The errors say what to do.
func TestGroupBadWeather(t *testing.T) {
	t.Parallel()
	join := func(nc *nats.Conn, change func(*natsipc.GroupConfig), services ...*ipc.Service) error {
		l := &list{}
		cfg := listConfig("a", l)
		if change != nil {
			change(&cfg)
		}
		if services == nil {
			services = append(services, l.service())
		}
		m, err := natsipc.JoinGroup(t.Context(), nc, cfg, services...)
		if err == nil {
			closeMember(t, m)
		}
		return err
	}
	expect := func(t *testing.T, err error, is error, text string) {
		t.Helper()
		if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want %q", err, text)
		}
	}
	t.Run("JetStream is off", func(t *testing.T) {
		err := join(groupConn(t, natstest.Start(t)), nil)
		expect(t, err, natsipc.ErrNoJetStream, "nats-server -js")
	})
	s := groupServer(t)
	nc := groupConn(t, s)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// Two members would lead a group without a State if servers forgot or moved the key.
	t.Run("another layout of the bucket", func(t *testing.T) {
		for name, c := range map[string]struct {
			change func(*jetstream.StreamConfig)
			want   string
		}{
			"ttl": {func(c *jetstream.StreamConfig) { c.MaxAge = time.Minute },
				"its maximum age (TTL) is 1m0s"},
			"memory": {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
				"its storage is Memory"},
			"interest": {func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
				"its retention is Interest"},
			"moved": {func(c *jetstream.StreamConfig) {
				c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "$KV.>",
					Destination: "elsewhere.>"}
			}, "its subject transform is true"},
			"few": {func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = 0, 1 },
				"its discard policy is DiscardOld"},
		} {
			cfg := jetstream.StreamConfig{Name: "KV_ipcgen_group_" + name,
				Subjects: []string{"$KV.ipcgen_group_" + name + ".>"}, MaxMsgsPerSubject: 1,
				Discard: jetstream.DiscardNew, AllowRollup: true}
			c.change(&cfg)
			if _, err := js.CreateStream(t.Context(), cfg); err != nil {
				t.Fatal(name, err)
			}
			err := join(nc, func(cfg *natsipc.GroupConfig) { cfg.Group, cfg.State = name, nil })
			expect(t, err, natsipc.ErrForeign, c.want)
		}
	})
	t.Run("an edited bucket", func(t *testing.T) { // with which the lease works
		if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
			Bucket: "ipcgen_group_edited", History: 7, MaxBytes: 1 << 20,
			Metadata: map[string]string{"ipcgen-group": "edited", "ipcgen-format": "2",
				"ipcgen-protocols": "test.List", "ipcgen-state": "none"}}); err != nil {
			t.Fatal(err)
		}
		if err := join(nc, func(cfg *natsipc.GroupConfig) {
			cfg.Group, cfg.State = "edited", nil
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("another layout of the stream", func(t *testing.T) {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "ipcgen_group_age", Subjects: []string{"ipcgen.age.log"}, MaxAge: time.Hour,
		}); err != nil {
			t.Fatal(err)
		}
		err := join(nc, func(cfg *natsipc.GroupConfig) { cfg.Group = "age" })
		expect(t, err, natsipc.ErrForeign, "give the group another name, or, if nothing needs "+
			"what is in it, run \"nats stream rm ipcgen_group_age\"")
		if n := strings.Count(err.Error(), "nats stream rm"); n != 1 {
			t.Errorf("%d streams are to be removed for the form of one: %v", n, err)
		}
	})
	t.Run("two groups of one name", func(t *testing.T) {
		if err := join(nc, nil); err != nil {
			t.Fatal(err)
		}
		other := ipc.NewService(newProtocol("test.Other"))
		expect(t, join(nc, nil, other), natsipc.ErrForeign, "ipcgen-protocols")
		expect(t, join(nc, func(cfg *natsipc.GroupConfig) { cfg.State = nil }, other),
			natsipc.ErrForeign, "ipcgen-protocols")
		for _, state := range []group.State{nil, &list{}} { // of one name below two prefixes
			under := func(prefix string) error {
				return join(nc, func(cfg *natsipc.GroupConfig) {
					cfg.Group, cfg.Prefix = fmt.Sprint("two", state == nil), prefix
					cfg.State = state
				})
			}
			if err := under("staging"); err != nil {
				t.Fatal(err)
			}
			expect(t, under(""), natsipc.ErrForeign, "staging")
		}
	})
	t.Run("a group that is removed by the commands of the error", func(t *testing.T) {
		for i := range 3 { // with other services each time, and a State but for the second time
			change := func(cfg *natsipc.GroupConfig) {
				if cfg.Group = "removed"; i == 1 {
					cfg.State = nil
				}
			}
			service := ipc.NewService(newProtocol(fmt.Sprint("test.Other", i)))
			err := join(nc, change, service)
			if foreign := errors.Is(err, natsipc.ErrForeign); foreign != (i > 0) {
				t.Errorf("time %d: %v", i, err)
			}
			if errors.Is(err, natsipc.ErrForeign) {
				for _, command := range removes.FindAllStringSubmatch(err.Error(), -1) {
					err := js.DeleteStream(t.Context(), command[1])
					if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
						t.Error(command[0], err)
					}
				}
				err = join(nc, change, service)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a service that cannot be replicated", func(t *testing.T) {
		streams := ipc.NewService(listProtocol, ipc.HandleServerStream(ipc.NewMethod(listProtocol,
			ipc.MethodSpec[words, words]{Name: "Watch", ID: 1, Streaming: ipc.ServerStreaming,
				EncodeRequest: encodeWords, DecodeRequest: decodeWords, DecodeReply: decodeWords}),
			func(context.Context, *words) iter.Seq2[*words, error] { return nil }))
		expect(t, join(nc, nil, streams), nil, "streams")
	})
	t.Run("the account is full", func(t *testing.T) {
		full := natstest.Start(t, natstest.JetStream(t.TempDir()),
			func(o *server.Options) { o.JetStreamMaxStore = 64 << 10 })
		l := &list{}
		cfg := listConfig("a", l)
		fnc := groupConn(t, full)
		joinList(t, fnc, cfg, l)
		c := dialList(t, fnc)
		answered := 0
		for {
			_, err := ipc.Invoke(t.Context(), c, methodAppend, &words{1})
			if err == nil {
				answered++
				continue
			}
			expect(t, err, nil, "a limit of JetStream is reached")
			if ipc.CodeOf(err) != ipc.CodeResourceExhausted ||
				ipc.OutcomeOf(err) != ipc.NotExecuted {
				t.Errorf("error %v", err)
			}
			break
		}
		if all := *invoke(t, c, methodAll); len(all) != answered {
			t.Errorf("%d changes were answered, and %d are there", answered, len(all))
		}
	})
	t.Run("wrong settings", func(t *testing.T) {
		expect(t, join(nc, func(c *natsipc.GroupConfig) { c.Group = "" }), nil,
			"give the group a name")
		expect(t, join(nc, func(c *natsipc.GroupConfig) { c.Lease = 1 }), nil, "300ms or more")
		err := join(nc, func(c *natsipc.GroupConfig) { c.MaxLogBytes = 8191 })
		if expect(t, err, nil, "give 8192 or more"); ipc.CodeOf(err) != ipc.CodeInvalidArgument {
			t.Errorf("error %v", err)
		}
		expect(t, join(nil, nil), nil, "connection to NATS is nil")
	})
}

// TestGroupFullLog changes more than the log may have: a snapshot takes the place of the changes,
// under a leader and at the begin of a reign.
func TestGroupFullLog(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	c := dialList(t, groupConn(t, s))
	n := uint64(0)
	for round := range 3 {
		l := &list{}
		cfg := listConfig(fmt.Sprint("m", round), l)
		cfg.MaxLogBytes = 8 << 10
		m := joinList(t, groupConn(t, s), cfg, l)
		for range 100 {
			n++
			if got := appendTo(t, c, n); got != n {
				t.Fatalf("change %d made the list %d long", n, got)
			}
		}
		closeMember(t, m)
	}
}

// TestGroupNoQuorum takes the servers away. Calls wait, and fail in the end; nothing that was
// answered is lost when the servers are back.
func TestGroupNoQuorum(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	l := &list{}
	m := joinList(t, groupConn(t, s), listConfig("a", l), l)
	c := dialList(t, groupConn(t, s))
	appendTo(t, c, 1)
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := ipc.Invoke(ctx, c, methodAppend, &words{2})
	if err == nil || ipc.OutcomeOf(err) == ipc.Executed {
		t.Errorf("without servers: %v", err)
	}
	eventually(t, "the leader resigns", func() bool {
		role, _ := m.Role()
		return role == registry.RoleStandby
	})
	s.Restart(t)
	appendTo(t, c, 3)
	all := *invoke(t, c, methodAll)
	maybe := ipc.OutcomeOf(err) == ipc.OutcomeUnknown
	if !slices.Equal(all, words{1, 3}) && !(maybe && slices.Equal(all, words{1, 2, 3})) {
		t.Errorf("the list is %v, and the change without servers: %v", all, err)
	}
}

// TestGroupBucketRemade deletes the bucket of the lease under a leader, which leads no more.
// Members that start make the bucket again, and lead in later epochs, so that clients follow.
func TestGroupBucketRemade(t *testing.T) {
	t.Parallel()
	for _, state := range []bool{true, false} {
		t.Run(fmt.Sprint("state ", state), func(t *testing.T) {
			t.Parallel()
			s := groupServer(t)
			nc := groupConn(t, s)
			join := func() *natsipc.Member { // a new process
				l := &list{}
				cfg := listConfig("a", l)
				if !state {
					cfg.State = nil
				}
				return joinList(t, nc, cfg, l)
			}
			m := join()
			c := dialList(t, nc)
			appendTo(t, c, 1)
			before := m.Epoch()
			if err := jetStream(t, nc).DeleteKeyValue(t.Context(), listBucket); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the leader resigns", func() bool { return m.Epoch() == 0 })
			closeMember(t, m)
			m = join()
			if got := appendTo(t, c, 2); (got == 2) != state || m.Epoch() <= before {
				t.Errorf("the list is %d long, in epoch %d after %d", got, m.Epoch(), before)
			}
		})
	}
}

// TestGroupEpochsGoBack has a bucket of the lease that somebody has made again with the first
// revision 1. A leader in such an epoch does not rule: epochs only grow.
func TestGroupEpochsGoBack(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l := &list{}
	cfg := listConfig("a", l)
	m := joinList(t, nc, cfg, l)
	appendTo(t, dialList(t, nc), 1)
	closeMember(t, m)
	js := jetStream(t, nc)
	bucket, err := js.Stream(t.Context(), "KV_"+listBucket)
	if err != nil {
		t.Fatal(err)
	}
	again := bucket.CachedInfo().Config
	if err := js.DeleteKeyValue(t.Context(), listBucket); err != nil {
		t.Fatal(err)
	}
	again.FirstSeq = 0
	if _, err := js.CreateStream(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	expectEnd(t, joinToEnd(t, nc, cfg, l.service()), nil,
		"or make it with a first sequence beyond")
}

// TestGroupClientErrors calls groups that are not there.
func TestGroupClientErrors(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	c, err := natsipc.DialGroup(t.Context(), nc, "nobody",
		natsipc.GroupDialConfig{Patience: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ipc.Invoke(t.Context(), c, methodAppend, &words{1})
	if ipc.CodeOf(err) != ipc.CodeUnavailable || ipc.OutcomeOf(err) != ipc.NotSent ||
		!strings.Contains(err.Error(), "no member says that it leads group nobody") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ipc.Invoke(ctx, c, methodLast, &words{}); ipc.CodeOf(err) != ipc.CodeCanceled ||
		ipc.OutcomeOf(err) != ipc.NotSent {
		t.Errorf("error %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := ipc.Invoke(t.Context(), c, methodLast, &words{}); err == nil ||
		!strings.Contains(err.Error(), "closed by this side") {
		t.Errorf("error %v", err)
	}
	if _, err := natsipc.DialGroup(t.Context(), nil, "x", natsipc.GroupDialConfig{}); err == nil {
		t.Error("no error for a nil connection")
	}
}

// TestGroupLeavesNothing closes members and clients: their goroutines have ended.
func TestGroupLeavesNothing(t *testing.T) {
	s := groupServer(t)
	nc := groupConn(t, s)
	round := func() {
		l := &list{}
		cfg := listConfig("a", l)
		cfg.SnapshotEvery = 2
		m, err := natsipc.JoinGroup(t.Context(), nc, cfg, l.service())
		if err != nil {
			t.Fatal(err)
		}
		c, err := natsipc.DialGroup(t.Context(), nc, "test.list", natsipc.GroupDialConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(5) {
			appendTo(t, c, n)
		}
		closeMember(t, m)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	ours := func() int {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		n := 0
		for g := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(g, "ipcgen/nats.") || strings.Contains(g, "nats/internal/lease") ||
				strings.Contains(g, "nats/internal/changelog") {
				n++
			}
		}
		return n
	}
	before := ours()
	for range 3 {
		round()
	}
	eventually(t, "the goroutines have ended", func() bool { return ours() <= before })
}

// TestGroupRoles reports the roles of members.
func TestGroupRoles(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	var epoch atomic.Uint64
	l := &list{}
	cfg := listConfig("a", l)
	cfg.OnRole = func(role registry.Role, e uint64) {
		if role == registry.RolePrimary {
			epoch.Store(e)
		}
		panic("is contained")
	}
	m := joinList(t, groupConn(t, s), cfg, l)
	c := dialList(t, groupConn(t, s))
	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if leader.Member != "a" || leader.Epoch != epoch.Load() || leader.Epoch != m.Epoch() {
		t.Errorf("leader %+v, told %d, epoch %d", leader, epoch.Load(), m.Epoch())
	}
}
