package topic_test

import (
	"syscall"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
	"github.com/ipcgen/ipcgen/runtime/topic"
)

// TestRelayWithoutMeans has no descriptors left for the memory of the next publisher. The break is
// not forgotten: it comes with the first message that can be published, which counts as lost what
// could not be.
func TestRelayWithoutMeans(t *testing.T) {
	echo.ExpectNothingLeft(t)
	r := topic.NewRelay(meter, topic.Options{Depth: 8})
	network := ipctest.NewNetwork()
	ipctest.Serve(t, network, channelName, r)
	s := subscribe(t, network, topic.SubscribeOptions{})
	relay := func(a topic.Arrival) error { return r.Publish(within(t), message(a.Number), a) }
	if err := relay(topic.Arrival{Number: 7}); err != nil {
		t.Fatal(err)
	}
	expect(t, s, 7)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	errs := []error{relay(topic.Arrival{Number: 8, Lost: 2, Break: true}),
		relay(topic.Arrival{Number: 9})}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, err := range errs {
		echo.Want(t, err, ipc.CodeResourceExhausted, ipc.NotSent, "RLIMIT_NOFILE")
	}
	if err := relay(topic.Arrival{Number: 10}); err != nil {
		t.Fatal(err)
	}
	if a := expect(t, s, 10); !a.Break || a.Lost != 4 {
		t.Errorf("%+v; want a break, and the messages 6 to 9 lost", a)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
