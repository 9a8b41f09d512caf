package conformance

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// longestMessage carries messages up to the limit, and refuses longer ones either way.
func longestMessage(t *testing.T, v *venue) {
	long := 17 << 20 // beyond the limit that connections have by default
	if v.subject.Longest != 0 {
		long = v.longest(v.subject.Longest)
	}
	grow := echo.Long // answers with a blob as long as the request says
	got, items := make(chan string, 8), echo.Streaming("Items", ipc.ServerStreaming)
	size := func(m *echo.Blob) (n int) {
		fmt.Sscan(string(m.Data), &n)
		return n
	}
	v.host(echo.StreamingService(notes(t, got),
		ipc.Handle(grow, func(_ context.Context, m *echo.Blob) (*echo.Blob, error) {
			return &echo.Blob{Data: make([]byte, size(m))}, nil
		}),
		ipc.HandleServerStream(items, func(_ context.Context,
			m *echo.Blob) iter.Seq2[*echo.Blob, error] {
			return func(yield func(*echo.Blob, error) bool) {
				yield(&echo.Blob{Data: make([]byte, size(m))}, nil)
			}
		})), echo.Service())
	c := v.dial(t)
	data := bytes.Repeat([]byte{7}, long)
	back, err := echo.Call(t.Context(), c, data)
	if err != nil || !bytes.Equal(back, data) {
		t.Errorf("%d bytes: %d came back, %v", long, len(back), err)
	}
	sender, sends := c.(ipc.Sender)
	sends = sends && v.subject.Lacks&OneWay == 0
	if sends {
		if err := echo.SendNote(t.Context(), sender, string(data)); err != nil {
			t.Errorf("a one-way message of %d bytes: %v", long, err)
		} else if s := <-got; s != string(data) {
			t.Errorf("%d bytes of a one-way message came", len(s))
		}
	}
	if v.subject.Longest == 0 {
		return
	}
	for _, n := range []int{v.subject.Longest + 1, 4 * v.subject.Longest} {
		limit := fmt.Sprint(v.subject.Longest)
		_, err = echo.Call(t.Context(), c, make([]byte, n))
		echo.Want(t, err, ipc.CodeTooLarge, ipc.NotSent, limit)
		_, err = ipc.Invoke(t.Context(), c, grow, &echo.Blob{Data: fmt.Append(nil, n)})
		echo.Want(t, err, ipc.CodeTooLarge, ipc.Executed, limit)
		if sends {
			err := echo.SendNote(t.Context(), sender, string(make([]byte, n)))
			echo.Want(t, err, ipc.CodeTooLarge, ipc.NotSent, limit)
		}
		if v.subject.Lacks&Streaming == 0 {
			_, err := ipc.InvokeClientStream(t.Context(), c, echo.Upload,
				func(yield func(*echo.Blob, error) bool) {
					yield(&echo.Blob{Data: make([]byte, n)}, nil)
				})
			echo.Want(t, err, ipc.CodeTooLarge, ipc.OutcomeUnknown)
			for _, err := range ipc.InvokeServerStream(t.Context(), c, items,
				&echo.Blob{Data: fmt.Append(nil, n)}) {
				echo.Want(t, err, ipc.CodeTooLarge, ipc.Executed)
			}
		}
		echo.Still(t, c)
	}
	if len(got) > 0 {
		t.Errorf("a message of %d bytes was handled", len(<-got))
	}
}
