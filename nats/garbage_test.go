package natsipc_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestGarbage sends what no client and no server sends to all subjects of a channel. Calls go on.
func TestGarbage(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.StreamingService(), echo.Service())
	nc := broker.ConnectInProcess(t)
	c := dial(t, nc)
	random := rand.New(rand.NewPCG(1, 2))
	missing, most := request(2, 0, "test.Echo"), request(4, 0xffffffff, "x")
	binary.LittleEndian.PutUint32(missing[44:], 1<<30) // in pieces
	binary.LittleEndian.PutUint32(most[36:], 0xffffffff)
	heads := [][]byte{nil, []byte("ipc"), []byte("ipc\x02"), []byte("ipc\x03 call"),
		request(1, 0, "test.Echo"), missing, most, request(5, 0, "test.Echo"),
		request(10, 0, "test.Echo"), request(11, 0, "test.Echo"), request(0, 0, ""),
		request(1, 0, "test.Echo")[:55]}
	for i := range 2000 {
		data := make([]byte, random.IntN(40))
		for k := range data {
			data[k] = byte(random.IntN(6))
		}
		subjects := []string{"ipcgen.echo.call", "ipcgen.echo.cancel", "ipcgen.echo.health",
			"ipcgen.echo.at.x.1"}
		m := &nats.Msg{Subject: subjects[random.IntN(len(subjects))], Data: data}
		if random.IntN(2) > 0 {
			m.Data = append(slices.Clip(heads[random.IntN(len(heads))]), data...)
		}
		if random.IntN(4) > 0 {
			m.Reply = "garbage.inbox.1"
		}
		if random.IntN(2) > 0 {
			m.Header = nats.Header{"Ipcgen-Meta": []string{"a=%", "b"}[:random.IntN(3)]}
		}
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 {
			echo.Still(t, c)
		}
	}
	echo.Still(t, c)
	echo.ExpectCounted(t, echo.CountTo(t.Context(), c, 1000), 1000)
}

// TestTopicsEndWithTheConnection closes the connection of a subscriber that waits.
func TestTopicsEndWithTheConnection(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	nc := broker.ConnectInProcess(t)
	s, err := audio.SubscribeLevels(t.Context(), natsipc.Topics(nc, "echo"),
		topic.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	read := make(chan error, 1)
	go func() {
		_, err := s.Next(t.Context(), new(audio.LevelsT))
		read <- err
	}()
	nc.Close()
	echo.Want(t, <-read, ipc.CodeUnavailable, ipc.OutcomeUnknown, "the connection to NATS")
}
