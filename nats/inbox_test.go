package natsipc_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// requests are what a client may send to the subjects of servers and members.
func requests(protocol string) [][]byte {
	name := []byte(protocol)
	return [][]byte{request(6, 0, ""), request(9, 0, "", name...), request(7, 0, "", name...),
		request(1, 7, protocol), request(5, 7, protocol), []byte("nonsense")}
}

// TestAnswersElsewhere sends requests whose answers are to go to a subject that is no inbox: a
// server, which may publish there, does not do it for a client that may not.
func TestAnswersElsewhere(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.StreamingService(), echo.Service())
	nc := broker.ConnectInProcess(t)
	c := dial(t, nc)
	got := make(chan *nats.Msg, 1000)
	subjects := []string{"ipcgen.echo.topic.x", "orders", "$JS.API.STREAM.DELETE.x", "_INBOXES.x",
		"_INBOX", "x._INBOX.y"}
	for _, s := range subjects {
		if _, err := nc.ChanSubscribe(s, got); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{s, s + ".f"} {
			for _, h := range requests("test.Echo") {
				for _, to := range []string{"ipcgen.echo.call", "ipcgen.echo.health"} {
					err := nc.PublishMsg(&nats.Msg{Subject: to, Reply: f,
						Data: h})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	echo.Still(t, c) // behind them all
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for len(got) > 0 {
		m := <-got
		t.Errorf("the server has sent %q to %s", m.Data, m.Subject)
	}
}

// TestAnswersToTheLog is the same with members of a group, whose permissions include the log, the
// lease and the JetStream API.
func TestAnswersToTheLog(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	l := &list{}
	joinList(t, groupConn(t, s), listConfig("a", l), l)
	nc := groupConn(t, s)
	c := dialList(t, nc)
	appendTo(t, c, 1)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	logged := func() uint64 {
		stream, err := js.Stream(t.Context(), "ipcgen_group_test_2Elist")
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.LastSeq
	}
	before := logged()
	leader, err := c.WaitLeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request("ipcgen.test=2Elist.who", nil, groupWatchdog)
	if err != nil {
		t.Fatal(err)
	}
	var told struct{ Channel string }
	if err := json.Unmarshal(m.Data, &told); err != nil {
		t.Fatal(err)
	}
	channel := "ipcgen.test=2Elist." + natsipc.Token(told.Channel)
	for _, to := range []string{"ipcgen.test=2Elist.log",
		"$KV.ipcgen_group_test_2Elist.leader",
		"$JS.API.STREAM.DELETE.ipcgen_group_test_2Elist",
		"$JS.API.STREAM.PURGE.ipcgen_group_test_2Elist"} {
		if err := nc.PublishRequest("ipcgen.test=2Elist.who", to, nil); err != nil {
			t.Fatal(err)
		}
		for _, h := range requests("test.List") {
			for _, end := range []string{".call", ".health"} {
				if err := nc.PublishMsg(&nats.Msg{Subject: channel + end, Reply: to,
					Data: h}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	// The leader has read them all when it answers behind them.
	if all := *invoke(t, c, methodAll); !slices.Equal(all, words{1}) {
		t.Errorf("the list is %v", all)
	}
	if now := logged(); now != before {
		t.Errorf("the log had %d messages, and has %d", before, now)
	}
	if now, err := c.WaitLeader(t.Context()); err != nil || now != leader {
		t.Errorf("%+v leads behind %+v, %v", now, leader, err)
	}
	appendTo(t, c, 2)
}

// TestOtherInboxes has a client whose inboxes servers do not answer to, unless they are told.
func TestOtherInboxes(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	nc := broker.ConnectInProcess(t, nats.CustomInboxPrefix("post.client"))
	_, err := natsipc.Dial(t.Context(), nc, "echo")
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "post.client", "_INBOX", "WithInboxes")
	_, err = natsipc.DialGroup(t.Context(), nc, "echo", natsipc.GroupDialConfig{})
	echo.Want(t, err, ipc.CodeInvalidArgument, ipc.NotSent, "WithInboxes")
	told := natsipc.WithInboxes("_INBOX", "post")
	serve(t, broker.ConnectInProcess(t), echo.Service(), told)
	echo.Still(t, dial(t, nc, told))
	echo.Still(t, dial(t, broker.ConnectInProcess(t)))
}
