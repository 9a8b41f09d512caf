package natsipc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// ask makes a request of the protocol of micro services, as "nats service" does.
func ask(t *testing.T, nc *nats.Conn, verb micro.Verb, into any) {
	t.Helper()
	subject, err := micro.ControlSubject(verb, "echo", "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(subject, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, into); err != nil {
		t.Fatal(err)
	}
}

// TestMicroService looks at a server as the users of NATS do.
func TestMicroService(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	srv := serve(t, broker.ConnectInProcess(t), echo.Service(),
		natsipc.WithVersion("1.2.3", "sends back what comes"))
	nc := broker.ConnectInProcess(t)
	c := dial(t, nc)
	for range 3 {
		echo.Still(t, c)
	}
	_, err := ipc.Invoke(t.Context(), c, echo.Fail, &echo.Blob{})
	echo.Want(t, err, ipc.CodeNotFound, ipc.Executed)

	var ping micro.Ping
	ask(t, nc, micro.PingVerb, &ping)
	if ping.Name != "echo" || ping.Version != "1.2.3" {
		t.Errorf("ping: %+v", ping)
	}
	var info micro.Info
	ask(t, nc, micro.InfoVerb, &info)
	if info.Description != "sends back what comes" ||
		info.Metadata[natsipc.MetaChannel] != "echo" || info.Metadata["test.Echo"] != "1" ||
		len(info.Endpoints) != 1 || info.Endpoints[0].Subject != "ipcgen.echo.call" ||
		info.Endpoints[0].Metadata[natsipc.MetaSchema+"test.Echo"] != echo.Protocol.Schema {
		t.Errorf("info: %+v", info)
	}
	var stats micro.Stats
	for deadline := time.Now().Add(5 * time.Minute); ; { // a call is counted after its reply
		ask(t, nc, micro.StatsVerb, &stats)
		var own natsipc.Stats
		if err := json.Unmarshal(stats.Endpoints[0].Data, &own); err != nil {
			t.Fatal(err)
		}
		if own.Calls > 4 {
			t.Fatalf("%d calls were counted, of 4", own.Calls)
		}
		if own.Calls == 4 && own.Failed["not found"] == 1 && stats.Endpoints[0].NumRequests >= 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("stats: %+v, %+v", stats.Endpoints[0], own)
		}
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	subject, _ := micro.ControlSubject(micro.PingVerb, "echo", "")
	if _, err := nc.Request(subject, nil, time.Minute); err != nats.ErrNoResponders {
		t.Errorf("a server that is shut down answers: %v", err)
	}
}

// TestPermissions runs the configuration of the documentation: a client can do no more than call.
func TestPermissions(t *testing.T) {
	echo.ExpectNothingLeft(t)
	page, err := os.ReadFile("../docs/beyond-one-machine.md")
	if err != nil {
		t.Fatal(err)
	}
	config := regexp.MustCompile("(?s)```hocon\n(.*?)```").FindSubmatch(page)
	if config == nil {
		t.Fatal("docs/beyond-one-machine.md has no configuration")
	}
	path := filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(path, config[1], 0o600); err != nil {
		t.Fatal(err)
	}
	broker := natstest.Start(t, natstest.Config(t, path))
	denied := make(chan error, 100)
	as := func(user string) *nats.Conn {
		return broker.Connect(t, nats.UserInfo(user, user+"-secret"), nats.CustomInboxPrefix(
			"_INBOX."+user), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			denied <- err
		}))
	}
	got := make(chan string, 10)
	levels := audio.NewLevelsPublisher(topic.Options{})
	defer levels.Close()
	for i := range uint64(3) {
		if err := levels.Publish(t.Context(), &audio.LevelsT{Position: i}); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, as("server"), echo.StreamingService(echo.Notes(got)), echo.Service(), levels)
	client := as("client")
	c := dial(t, client)
	echo.Still(t, c)
	echo.ExpectCounted(t, echo.CountTo(t.Context(), c, 1000), 1000)
	if _, err := echo.Call(t.Context(), c, make([]byte, 3<<20)); err != nil {
		t.Error(err)
	}
	if err := echo.SendNote(t.Context(), c, "x"); err != nil {
		t.Error(err)
	}
	if _, err := c.Health(t.Context(), ""); err != nil {
		t.Error(err)
	}
	sub, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(client, "echo"),
		topic.SubscribeOptions{History: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	var m audio.LevelsT
	if a, err := sub.Next(t.Context(), &m); err != nil || a.Number != 1 || m.Position != 1 {
		t.Errorf("%+v, %+v, %v", a, m, err)
	}
	if len(denied) > 0 {
		t.Error(<-denied)
	}
	// What it may not do.
	_, err = natsipc.Serve(t.Context(), client, "echo", echo.Service())
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent)
	_, err = natsipc.Dial(t.Context(), client, "other", natsipc.WithBeat(silent))
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "ipcgen.other.call", "permissions")
	_, err = audio.SubscribeLevels(t.Context(), natsipc.Topics(client, "other"),
		topic.SubscribeOptions{})
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "ipcgen.other.topic", "permissions")
	for len(denied) > 0 {
		<-denied
	}
	for _, subject := range []string{"ipcgen.echo.>", "ipcgen.other.>", "_INBOX.server.>", ">"} {
		if _, err := client.Subscribe(subject, func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
		expectDenied(t, denied, "subscribe to "+subject)
	}
	for _, subject := range []string{"ipcgen.other.call", "ipcgen.echo.topic.x", "$SRV.PING",
		"_INBOX.server.x"} {
		if err := client.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		expectDenied(t, denied, "publish to "+subject)
	}
}

// withUsers starts a NATS server with users by their permissions, beside one called all. The
// function that it returns connects as one of them, with an own inbox.
func withUsers(t *testing.T, permissions map[string]string) (as func(user string) *nats.Conn) {
	t.Helper()
	config := "authorization { users = [ { user: all, password: x }\n"
	for user, may := range permissions {
		config += fmt.Sprintf("{ user: %s, password: x, permissions: { %s } }\n", user, may)
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(config+"] }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := natstest.Start(t, natstest.Config(t, path))
	return func(user string) *nats.Conn {
		return broker.Connect(t, nats.UserInfo(user, "x"), nats.CustomInboxPrefix("_INBOX."+user),
			nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	}
}

// silent is a beat with which no server counts as gone while a test runs.
const silent = time.Hour

// TestForbiddenIsTold has clients that may not ask, or not hear the answer: what NATS says ends
// their questions, and no beat is waited for.
func TestForbiddenIsTold(t *testing.T) {
	as := withUsers(t, map[string]string{
		"mute": `publish: { deny: ["ipcgen.*.call", "ipcgen.*.at.topic.*"] }`,
		"deaf": `subscribe: { deny: "_INBOX.deaf.>" }`,
		"cold": `publish: { deny: "ipcgen.*.health" }`,
	})
	levels := audio.NewLevelsPublisher(topic.Options{})
	defer levels.Close()
	serve(t, as("all"), echo.Service(), levels)
	for _, nc := range []*nats.Conn{as("mute"), as("deaf")} {
		_, err := natsipc.Dial(t.Context(), nc, "echo", natsipc.WithBeat(silent))
		echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "permissions")
		_, err = audio.SubscribeLevels(t.Context(), natsipc.Topics(nc, "echo",
			natsipc.WithBeat(silent)), topic.SubscribeOptions{})
		echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "permissions")
	}
	c, err := natsipc.Dial(t.Context(), as("cold"), "echo", natsipc.WithBeat(silent))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Health(t.Context(), "")
	echo.Want(t, err, ipc.CodePermissionDenied, ipc.NotSent, "ipcgen.echo.health", "permissions")
	echo.Still(t, c)
}

// TestForbiddenBefore serves, dials and subscribes over connections whose last error is that they
// were forbidden something else.
func TestForbiddenBefore(t *testing.T) {
	as := withUsers(t, map[string]string{
		"mute": `publish: { deny: ["ipcgen.echo.callx", "ipcgen.echo.topic.*"] }`})
	forbidden := func(nc *nats.Conn, subject string) {
		t.Helper()
		if err := errors.Join(nc.Publish(subject, nil), nc.Flush()); err != nil {
			t.Fatal(err)
		}
		if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Fatalf("%s: %v", subject, err)
		}
	}
	nc := as("mute")
	forbidden(nc, "ipcgen.echo.callx")
	serve(t, nc, echo.Service())
	forbidden(nc, "ipcgen.echo.callx")
	echo.Still(t, dial(t, nc))
	name := audio.LevelsTopic.Protocol.Name
	forbidden(nc, "ipcgen.echo.topic."+natsipc.Token(name))
	sub, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(nc, "echo"),
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
}

func expectDenied(t *testing.T, denied <-chan error, what string) {
	t.Helper()
	select {
	case <-denied:
	case <-time.After(5 * time.Minute):
		t.Errorf("the client may %s", what)
	}
}
