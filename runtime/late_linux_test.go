package ipc

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/shm"
)

// A lateTransport lets the deadline of a handshake pass just before the client agrees.
type lateTransport struct{ socketTransport }

func (t lateTransport) Dial(ctx context.Context, channel string) (Link, error) {
	l, err := t.socketTransport.Dial(ctx, channel)
	return &lateLink{Link: l}, err
}

type lateLink struct {
	Link
	sends int
}

func (l *lateLink) Send(p []byte, m ...shm.Memory) error {
	if l.sends++; l.sends > 1 {
		return os.ErrDeadlineExceeded
	}
	return l.Link.Send(p, m...)
}

func TestDeadlineBeforeTheVerdict(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	l, err := Listen("late", WithDomain(dir))
	if err != nil {
		t.Fatal(err)
	}
	info := &StreamInfo{Protocol: &Protocol{Name: "test.Late", Fingerprint: 1}, HeaderSize: 8}
	srv := NewServer(HandleStreamReader(info, func(context.Context, *StreamReader) error {
		return nil
	}))
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	late := WithTransport(lateTransport{socketTransport{dir}})
	_, err = Dial(t.Context(), "late", late)
	_, serr := OpenStreamWriter(t.Context(), "late", info, StreamOptions{}, late)
	for _, err := range []error{err, serr} {
		if CodeOf(err) != CodeDeadlineExceeded || OutcomeOf(err) != NotSent {
			t.Errorf("%v, %v: %v", CodeOf(err), OutcomeOf(err), err)
		}
	}
	srv.Close()
	<-served
}
