package natsipc_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	natsipc "github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// These tests do to a group what operators, and strangers with their permissions, may do.

const (
	listStream = "ipcgen_group_test_2Elist"
	listBucket = "ipcgen_group_test_2Elist"
)

func jetStream(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// joinToEnd adds a member that is to end by itself, and returns why it has.
func joinToEnd(t *testing.T, nc *nats.Conn, cfg natsipc.GroupConfig,
	services ...*ipc.Service) <-chan error {
	t.Helper()
	m, err := natsipc.JoinGroup(t.Context(), nc, cfg, services...)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		<-m.Done()
		ended <- m.Err()
	}()
	t.Cleanup(func() { _ = m.Close(context.Background()) }) // it returns the error
	return ended
}

// expectEnd waits for the end of a member.
func expectEnd(t *testing.T, ended <-chan error, is error, text string) {
	t.Helper()
	select {
	case err := <-ended:
		if err == nil || is != nil && !errors.Is(err, is) || !strings.Contains(err.Error(), text) {
			t.Errorf("the member has ended: %v; want %q", err, text)
		}
	case <-time.After(groupWatchdog):
		t.Errorf("the member goes on; want %q", text)
	}
}

// TestGroupLogPurged removes the changes of a group of which there is no snapshot. A member that
// has executed them goes on, and one that has not ends.
func TestGroupLogPurged(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l := &list{}
	joinList(t, nc, listConfig("a", l), l)
	c := dialList(t, nc)
	appendTo(t, c, 1)
	stream, err := jetStream(t, nc).Stream(t.Context(), listStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := appendTo(t, c, 2); got != 2 {
		t.Errorf("the list is %d long", got)
	}
	late := &list{}
	expectEnd(t, joinToEnd(t, nc, listConfig("late", late), late.service()),
		natsipc.ErrRewritten, "no snapshot has taken their place")
	appendTo(t, c, 3)
}

// TestGroupLogDeleted deletes the stream of a group. Changes are not executed any more, and the
// members end.
func TestGroupLogDeleted(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l, standby := &list{}, &list{}
	ended := joinToEnd(t, nc, listConfig("a", l), l.service())
	c := dialList(t, nc)
	appendTo(t, c, 1)
	other := joinToEnd(t, nc, listConfig("b", standby), standby.service())
	if err := jetStream(t, nc).DeleteStream(t.Context(), listStream); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), groupWatchdog)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(ctx, c, methodAppend, &words{2})
		result <- err
	}()
	expectEnd(t, ended, natsipc.ErrRewritten, "was deleted")
	expectEnd(t, other, natsipc.ErrRewritten, "was deleted")
	cancel()
	if err := <-result; err == nil || ipc.OutcomeOf(err) == ipc.Executed {
		t.Errorf("the change without a stream: %v", err)
	}
}

// TestGroupLeaseOverwritten has a stranger write into the bucket of the lease. The leader leads no
// more, and the group goes on when the key is deleted, as the log of the members says.
func TestGroupLeaseOverwritten(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l := &list{}
	m := joinList(t, nc, listConfig("a", l), l)
	c := dialList(t, nc)
	appendTo(t, c, 1)
	bucket, err := jetStream(t, nc).KeyValue(t.Context(), listBucket)
	if err != nil {
		t.Fatal(err)
	}
	before := m.Epoch()
	if _, err := bucket.PutString(t.Context(), "leader", "garbage"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leader resigns", func() bool { return m.Epoch() == 0 })
	if err := bucket.Delete(t.Context(), "leader"); err != nil {
		t.Fatal(err)
	}
	if got := appendTo(t, c, 2); got != 2 {
		t.Errorf("the list is %d long", got)
	}
	eventually(t, "the member leads in a later epoch", func() bool { return m.Epoch() > before })
}

// TestGroupOlderMember has a member whose version lacks a method. It ends at the first change that
// it cannot execute, and does not take part with another state.
func TestGroupOlderMember(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l, old := &list{}, &list{}
	joinList(t, nc, listConfig("new", l), l)
	c := dialList(t, nc)
	appendTo(t, c, 1)
	ended := joinToEnd(t, nc, listConfig("old", old), ipc.NewService(listProtocol,
		ipc.Handle(methodAppend, old.append), ipc.Handle(methodLast, old.last)))
	eventually(t, "the old member follows", func() bool { return len(old.copy()) == 1 })
	appendTo(t, c, 2)
	if got := *invoke(t, c, methodRepeat, 3); got[0] != 3 {
		t.Errorf("the list is %d long", got[0])
	}
	expectEnd(t, ended, natsipc.ErrVersion, "start a member with the version of the others")
	if got := appendTo(t, c, 4); got != 4 {
		t.Errorf("the list is %d long", got)
	}
}

// TestGroupStates has members with a State and without one, under one name.
func TestGroupStates(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l := &list{}
	joinList(t, nc, listConfig("a", l), l)
	cfg := listConfig("b", l)
	cfg.State = nil
	_, err := natsipc.JoinGroup(t.Context(), nc, cfg, l.service())
	if !errors.Is(err, natsipc.ErrForeign) || !strings.Contains(err.Error(), "ipcgen-state") {
		t.Errorf("error %v", err)
	}
}

// TestGroupReplicas joins a group whose changes fewer servers keep than the member asks for.
func TestGroupReplicas(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l := &list{}
	joinList(t, nc, listConfig("a", l), l)
	for _, state := range []bool{true, false} {
		cfg := listConfig("b", l)
		cfg.Replicas = 3
		if !state {
			cfg.State, cfg.Group = nil, "test.stateless"
			one := cfg
			one.Replicas = 1
			m, err := natsipc.JoinGroup(t.Context(), nc, one, l.service())
			if err != nil {
				t.Fatal(err)
			}
			defer closeMember(t, m)
		}
		_, err := natsipc.JoinGroup(t.Context(), nc, cfg, l.service())
		if !errors.Is(err, natsipc.ErrForeign) ||
			!strings.Contains(err.Error(), "number of replicas is 1, and must be 3") ||
			!strings.Contains(err.Error(), "nats stream edit") {
			t.Errorf("error %v", err)
		}
	}
}

// patient is listConfig for tests in which the first leader stays, however busy the machine is.
func patient(member string, l *list) natsipc.GroupConfig {
	cfg := listConfig(member, l)
	cfg.Lease = groupWatchdog
	return cfg
}

// TestGroupPayloads has servers that take small messages. Changes that do not fit have several, and
// those who follow, or come later, execute them as the leader does. A group that could not work at
// all is refused.
func TestGroupPayloads(t *testing.T) {
	t.Parallel()
	small := natstest.Start(t, natstest.JetStream(t.TempDir()), natstest.MaxPayload(8192))
	l := &list{ballast: 100_000} // a snapshot has pieces
	cfg := patient("a", l)
	cfg.SnapshotEvery = 5
	joinList(t, groupConn(t, small), cfg, l)
	follower := &list{}
	joinList(t, groupConn(t, small), patient("b", follower), follower)
	c := dialList(t, groupConn(t, small))
	var want words
	for n := range uint64(20) {
		long := longWords(n, 10_000*int(n%4)+8)
		rep, err := ipc.Invoke(t.Context(), c, methodAppend, &long)
		if err != nil || (*rep)[0] != n+1 {
			t.Fatalf("change %d: %v, %v", n, rep, err)
		}
		want = append(want, n)
	}
	late := &list{}
	joinList(t, groupConn(t, small), patient("c", late), late)
	for _, l := range []*list{l, follower, late} {
		eventually(t, "a member has all changes", func() bool {
			return slices.Equal(l.copy(), want)
		})
	}
	least := natstest.Start(t, natstest.JetStream(t.TempDir()), natstest.MaxPayload(1024))
	_, err := natsipc.JoinGroup(t.Context(), groupConn(t, least), cfg, l.service())
	if err == nil || !strings.Contains(err.Error(), "raise their max_payload") {
		t.Errorf("error %v", err)
	}
}

// TestGroupLeastLog has the least log, which has less room than a message of the servers. Changes
// of up to half of it pass, also those that wait at the same time, and longer ones are refused.
func TestGroupLeastLog(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	l := &list{}
	cfg := patient("a", l)
	cfg.MaxLogBytes = 8192
	joinList(t, groupConn(t, s), cfg, l)
	c := dialList(t, groupConn(t, s))
	long := longWords(1, 5000)
	_, err := ipc.Invoke(t.Context(), c, methodAppend, &long)
	if ipc.CodeOf(err) != ipc.CodeTooLarge || ipc.OutcomeOf(err) != ipc.NotExecuted ||
		!strings.Contains(err.Error(), "the limit is 4096; see GroupConfig.MaxLogBytes") {
		t.Errorf("a change of more than half of the log: %v", err)
	}
	var all sync.WaitGroup
	for n := range uint64(30) {
		all.Go(func() {
			long := longWords(n, 3900)
			if _, err := ipc.Invoke(t.Context(), c, methodAppend, &long); err != nil {
				t.Errorf("change %d: %v", n, err)
			}
		})
	}
	all.Wait()
	if got := *invoke(t, c, methodAll); len(got) != 30 {
		t.Errorf("the list is %d long", len(got))
	}
}

// TestGroupSaidOnce has a member that can never begin to lead, because the log was given no room.
// It tries again and again, says why once, and leads when there is room again.
func TestGroupSaidOnce(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	js := jetStream(t, nc)
	l := &list{}
	first := joinList(t, nc, listConfig("a", l), l)
	leaderOf(t, first)
	closeMember(t, first)
	limit := func(bytes int64) {
		log, err := js.Stream(t.Context(), listStream)
		if err != nil {
			t.Fatal(err)
		}
		cfg := log.CachedInfo().Config
		cfg.MaxBytes = bytes
		if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	limit(1)
	bucket, err := js.KeyValue(t.Context(), listBucket)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := bucket.Watch(t.Context(), "leader", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	var log logged
	l = &list{}
	cfg := listConfig("b", l)
	cfg.Lease, cfg.Logger = time.Second, log.logger()
	m := joinList(t, nc, cfg, l)
	eventually(t, "the member says why", func() bool {
		return strings.Contains(log.String(), "a limit of JetStream is reached")
	})
	for released := 0; released < 4; {
		select {
		case e := <-claims.Updates():
			if e != nil && e.Operation() != jetstream.KeyValuePut {
				released++
			}
		case <-time.After(groupWatchdog):
			t.Fatal("the member does not try again")
		}
	}
	limit(-1)
	leaderOf(t, m)
	last := ""
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "cannot begin to lead") {
			continue
		}
		_, why, _ := strings.Cut(line, "why=")
		if why == last {
			t.Errorf("said again: %s", line)
		}
		last = why
	}
	if !strings.Contains(log.String(), "nats stream edit --max-bytes=BYTES "+listStream) {
		t.Errorf("the log does not say what to do:\n%s", &log)
	}
}

// TestGroupLongChanges has a log with little room. Changes that are too long for it are refused;
// those for which it has no room at the moment make a snapshot take the place of the others, and of
// their own parts that were stored in vain.
func TestGroupLongChanges(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.JetStream(t.TempDir()), natstest.MaxPayload(8192))
	l, follower := &list{}, &list{}
	cfg := patient("a", l)
	cfg.MaxLogBytes = 100_000
	joinList(t, groupConn(t, s), cfg, l)
	cfg = patient("b", follower)
	cfg.MaxLogBytes = 100_000
	joinList(t, groupConn(t, s), cfg, follower)
	c := dialList(t, groupConn(t, s))
	var want words
	for n := range uint64(30) { // four fit
		long := longWords(n, 22_000)
		if n%5 == 4 {
			long = long[:1]
		}
		rep, err := ipc.Invoke(t.Context(), c, methodAppend, &long)
		if err != nil || (*rep)[0] != n+1 {
			t.Fatalf("change %d: %v, %v", n, rep, err)
		}
		want = append(want, n)
	}
	long := longWords(1, 60_000)
	_, err := ipc.Invoke(t.Context(), c, methodAppend, &long)
	if ipc.CodeOf(err) != ipc.CodeTooLarge || ipc.OutcomeOf(err) != ipc.NotExecuted ||
		!strings.Contains(err.Error(), "the limit is 50000; see GroupConfig.MaxLogBytes") {
		t.Errorf("a change of more than half of the log: %v", err)
	}
	for _, l := range []*list{l, follower} {
		eventually(t, "a member has all changes", func() bool {
			return slices.Equal(l.copy(), want)
		})
	}
}

// TestGroupShortOfSpace has an account that has no room for all parts of a change. Further ones
// find the room that those parts took.
func TestGroupShortOfSpace(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(conf, []byte(`
		accounts { A { jetstream { max_file: 200000 }, users: [ { user: a, password: a } ] } }
		no_auth_user: a`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := natstest.Start(t, natstest.Config(t, conf), natstest.JetStream(t.TempDir()),
		natstest.MaxPayload(8192))
	l := &list{}
	joinList(t, groupConn(t, s), patient("a", l), l)
	c := dialList(t, groupConn(t, s))
	var want words
	for n := range uint64(5) {
		long := longWords(100, 300_000)
		_, err := ipc.Invoke(t.Context(), c, methodAppend, &long)
		if ipc.CodeOf(err) != ipc.CodeResourceExhausted || ipc.OutcomeOf(err) != ipc.NotExecuted {
			t.Fatalf("a change for which there is no room: %v", err)
		}
		short := longWords(n, 7000) // than which the parts have left less
		rep, err := ipc.Invoke(t.Context(), c, methodAppend, &short)
		if err != nil || (*rep)[0] != n+1 {
			t.Fatalf("change %d: %v, %v", n, rep, err)
		}
		want = append(want, n)
	}
	if got := l.copy(); !slices.Equal(got, want) {
		t.Errorf("the list is %v, want %v", got, want)
	}
}

// TestConnectionLimit has a server that takes one connection.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) { o.MaxConn = 1 })
	groupConn(t, s)
	eventually(t, "the server says why", func() bool { // it may close the connection before
		_, err := natsipc.Connect(s.ClientURL())
		if err == nil || ipc.OutcomeOf(err) != ipc.NotSent {
			t.Fatalf("error %v", err)
		}
		return ipc.CodeOf(err) == ipc.CodeResourceExhausted
	})
}

// TestGroupHandlerHangs has a handler that does not return for longer than the lease. The leader
// stays, answers reads, and tells callers that it does not know; the change is made once.
func TestGroupHandlerHangs(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	l := &list{entered: func() {
		entered <- struct{}{}
		<-release
	}}
	nc := groupConn(t, s)
	m := joinList(t, nc, listConfig("a", l), l)
	c := dialList(t, groupConn(t, s))
	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := jetStream(t, nc).KeyValue(t.Context(), listBucket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := ipc.Invoke(ctx, c, methodAppend, &words{1})
		result <- err
	}()
	<-entered
	for range 4 { // the lease is renewed three times before it is over
		awaitRenewal(t, bucket)
	}
	if got := *invoke(t, c, methodLast); got[0] != 0 || m.Epoch() != leader.Epoch {
		t.Errorf("a read behind the change: %v, in epoch %d, not %d", got, m.Epoch(), leader.Epoch)
	}
	cancel()
	if err := <-result; ipc.CodeOf(err) != ipc.CodeCanceled ||
		ipc.OutcomeOf(err) != ipc.OutcomeUnknown {
		t.Errorf("a change whose handler hangs: %v", err)
	}
	close(release)
	if got := appendTo(t, c, 2); got != 2 {
		t.Errorf("the list is %d long", got)
	}
}

// awaitRenewal waits until a lease is renewed once more.
func awaitRenewal(t *testing.T, bucket jetstream.KeyValue) {
	t.Helper()
	revision := func() uint64 {
		e, err := bucket.Get(t.Context(), "leader")
		if err != nil {
			t.Fatal(err)
		}
		return e.Revision()
	}
	before := revision()
	eventually(t, "the lease is renewed", func() bool { return revision() > before })
}

// TestGroupGarbage has a stranger with all permissions send garbage to all subjects of a group. The
// leader loses its reign to what is written into the log, and the group goes on: what was answered
// is there, once.
func TestGroupGarbage(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	l := &list{}
	m := joinList(t, groupConn(t, s), listConfig("a", l), l)
	c := dialList(t, groupConn(t, s))
	nc := groupConn(t, s)
	random := rand.New(rand.NewPCG(1, 2))
	subjects := []string{"ipcgen.test=2Elist.reign", "ipcgen.test=2Elist.who",
		"ipcgen.test=2Elist.log", "ipcgen.test=2Elist.log.snapshot.piece",
		"$KV." + listBucket + ".another"}
	texts := []string{"", "{}", `{"epoch":1}`, `{"epoch":-1,"member":7}`, `{"epoch":0,"ended":true}`,
		"\x01\x02", "\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00"}
	var want words
	for n := range uint64(20) {
		for _, subject := range subjects {
			data := []byte(texts[random.IntN(len(texts))])
			for range random.IntN(40) {
				data = append(data, byte(random.IntN(256)))
			}
			if err := nc.PublishMsg(&nats.Msg{Subject: subject, Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		want = append(want, n)
		// The schema says that Repeat may be made again, and the number that it is made once.
		invoke(t, c, methodRepeat, n)
	}
	if all := *invoke(t, c, methodAll); !slices.Equal(all, want) {
		t.Errorf("the list is %v", all)
	}
	eventually(t, "the member leads", func() bool { return m.Epoch() != 0 })
}
