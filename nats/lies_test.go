package natsipc_test

import (
	"runtime"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	"github.com/ipcgen/ipcgen/nats/internal/natstest"
)

// heap returns how much memory is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools keep
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestCancellationsCostLittle cancels calls that no server has, by long names. A server remembers
// the cancellation of a call that may come yet, and no subject of a call is so long, or elsewhere.
func TestCancellationsCostLittle(t *testing.T) {
	echo.ExpectNothingLeft(t)
	broker := natstest.Start(t)
	serve(t, broker.ConnectInProcess(t), echo.Service())
	nc := broker.ConnectInProcess(t)
	c := dial(t, nc)
	echo.Still(t, c)
	before := heap()
	const n, length = 128, 512 << 10
	for i := range n {
		for _, inbox := range []string{"_INBOX.", "elsewhere."} {
			reply := append([]byte(inbox), make([]byte, length)...)
			reply[len(reply)-1] = byte(i)
			if err := nc.Publish("ipcgen.echo.cancel", append(make([]byte, 10), reply...)); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 { // behind them all, and the memory of connections has had other messages
		echo.Still(t, c)
	}
	if grown := int64(heap()) - int64(before); grown > n*length/4 {
		t.Errorf("the memory has grown by %d bytes", grown)
	}
}
