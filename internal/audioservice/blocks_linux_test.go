package audioservice

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/audioblock"
	"github.com/ipcgen/ipcgen/internal/dsp"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// serveDesk serves blocks on a channel called audio, and returns its domain.
func serveDesk(t *testing.T) (domain string, e *Engine) {
	t.Helper()
	domain = filepath.Join(t.TempDir(), "domain")
	e = NewEngine()
	l, err := ipc.Listen("audio", ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	server := ipc.NewServer(newDesk(e, newMeter()).options()...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, ipc.ErrServerClosed) {
			t.Error(err)
		}
	})
	return domain, e
}

// A deskClient is a client that writes blocks of any content.
type deskClient struct {
	r *audio.AudioBufferHeaderReader
	w *audio.AudioBufferHeaderWriter
}

func openDesk(t *testing.T, domain string) *deskClient {
	t.Helper()
	d, err := tryDesk(t, domain)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tryDesk opens a pair of streams, and returns why the service refuses it.
func tryDesk(t *testing.T, domain string) (*deskClient, error) {
	t.Helper()
	o := ipc.StreamOptions{Depth: 4, Payload: audioblock.MostBytes(8 << 10)}
	r, err := audio.OpenAudioBufferHeaderReader(t.Context(), "audio", o, ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	var ticket uint64
	if err := r.Read(t.Context(), func(h *audio.AudioBufferHeader, b []byte, _ uint64) (err error) {
		ticket, err = audioblock.Ticket(h, b)
		return err
	}); err != nil {
		return nil, err
	}
	w, err := audio.OpenAudioBufferHeaderWriter(t.Context(), "audio", o, ipc.WithDomain(domain))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	d := &deskClient{r, w}
	d.send(t, audio.AudioBufferHeaderT{Sequence: ticket}, nil)
	return d, nil
}

// send writes a block.
func (c *deskClient) send(t *testing.T, h audio.AudioBufferHeaderT, payload []byte) {
	t.Helper()
	if err := c.write(t, h, payload); err != nil {
		t.Fatal(err)
	}
}

// write is send, and returns why the block cannot be written.
func (c *deskClient) write(t *testing.T, h audio.AudioBufferHeaderT, payload []byte) error {
	return c.w.Write(t.Context(), len(payload), func(to *audio.AudioBufferHeader, b []byte) error {
		to.MutateSequence(h.Sequence)
		to.MutateFrames(h.Frames)
		to.MutateChannels(h.Channels)
		to.MutateFlags(h.Flags)
		copy(b, payload)
		return nil
	})
}

// stateOf is the state at the begin of a stream.
func stateOf(t *testing.T, channels int) []byte {
	t.Helper()
	c, err := dsp.NewChain(48_000, channels, dsp.InitialValues())
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, dsp.StateSize)
	c.Save(b)
	return b
}

// TestHostileBlocks writes blocks that are not valid: each ends its own stream, with an error that
// names the cause, and the service goes on.
func TestHostileBlocks(t *testing.T) {
	domain, _ := serveDesk(t)
	good := audio.AudioBufferHeaderT{Frames: 2, Channels: 2, Flags: audioblock.Flags(0, true)}
	block := append(make([]byte, 16), stateOf(t, 2)...)
	with := func(f func(*audio.AudioBufferHeaderT)) audio.AudioBufferHeaderT {
		h := good
		f(&h)
		return h
	}
	damaged := append([]byte(nil), block...)
	damaged[16]++
	late := make([]byte, 16+12)
	late[16] = 2 // the frame behind the last one
	for _, c := range []struct {
		name    string
		h       audio.AudioBufferHeaderT
		payload []byte
		want    string
	}{
		{"no bytes", good, nil, "0 bytes"},
		{"one byte less", good, block[:len(block)-1], "bytes"},
		{"many frames", with(func(h *audio.AudioBufferHeaderT) { h.Frames = 1 << 31 }), block,
			"2147483648 frames"},
		{"no channels", with(func(h *audio.AudioBufferHeaderT) { h.Channels = 0 }), block,
			"0 channels"},
		{"other channels", with(func(h *audio.AudioBufferHeaderT) { h.Channels, h.Frames = 1, 4 }),
			block, "1 channels in a stream of 2"},
		{"unknown flags", with(func(h *audio.AudioBufferHeaderT) { h.Flags |= 0x80 }), block,
			"flags"},
		{"no state", with(func(h *audio.AudioBufferHeaderT) { h.Flags = 0 }), block[:16],
			"needs the state"},
		{"more changes than bytes", with(func(h *audio.AudioBufferHeaderT) { h.Flags = 0xFF00 }),
			block, "255 changes"},
		{"a damaged state", good, damaged, "version"},
		{"a change behind the end", with(func(h *audio.AudioBufferHeaderT) {
			h.Flags = audioblock.Flags(1, true)
		}), append(late, block[16:]...), "a change at frame 2"},
	} {
		d := openDesk(t, domain)
		d.send(t, c.h, c.payload)
		err := d.r.Read(t.Context(), func(*audio.AudioBufferHeader, []byte, uint64) error {
			return errors.New("answered")
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
		d.w.Close()
		d.r.Close()
	}

	d := openDesk(t, domain)
	d.send(t, good, block)
	read := func(*audio.AudioBufferHeader, []byte, uint64) error { return nil }
	if err := d.r.Read(t.Context(), read); err != nil {
		t.Fatalf("a good block after all of them: %v", err)
	}
	gap := with(func(h *audio.AudioBufferHeaderT) { h.Sequence, h.Flags = 2, 0 })
	d.send(t, gap, block[:16])
	if err := d.r.Read(t.Context(), read); err == nil ||
		!strings.Contains(err.Error(), "block 2 follows block 0") {
		t.Errorf("a gap: %v", err)
	}
}

// TestForeignTickets joins a stream of answers by other tickets. The pair that has its own works.
func TestForeignTickets(t *testing.T) {
	domain, _ := serveDesk(t)
	d := openDesk(t, domain)
	work := func() {
		t.Helper()
		d.send(t, audio.AudioBufferHeaderT{Frames: 1, Channels: 1,
			Flags: audioblock.Flags(0, true)}, append(make([]byte, 4), stateOf(t, 1)...))
		ignore := func(*audio.AudioBufferHeader, []byte, uint64) error { return nil }
		if err := d.r.Read(t.Context(), ignore); err != nil {
			t.Fatal(err)
		}
	}
	work() // so the service has taken the ticket of this pair
	o := ipc.StreamOptions{Payload: audioblock.MostBytes(8 << 10)}
	for _, c := range []struct {
		h    audio.AudioBufferHeaderT
		want ipc.Code
	}{
		{audio.AudioBufferHeaderT{Sequence: 1}, ipc.CodeFailedPrecondition}, // used already
		{audio.AudioBufferHeaderT{Sequence: 2}, ipc.CodeFailedPrecondition}, // not handed out
		{audio.AudioBufferHeaderT{Frames: 1, Channels: 1}, ipc.CodeInvalidArgument},
	} {
		w, err := audio.OpenAudioBufferHeaderWriter(t.Context(), "audio", o, ipc.WithDomain(domain))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		other := &deskClient{w: w}
		for err == nil { // until the refusal has come
			err = other.write(t, c.h, make([]byte, c.h.Frames*4))
		}
		if ipc.CodeOf(err) != c.want {
			t.Errorf("%+v: %v, want %v", c.h, err, c.want)
		}
	}
	work()
}

// TestOnePairAProcess opens a second pair of streams, which is refused, and ends the first one in
// all orders, after which the next pair works.
func TestOnePairAProcess(t *testing.T) {
	domain, _ := serveDesk(t)
	h := audio.AudioBufferHeaderT{Frames: 1, Channels: 1, Flags: audioblock.Flags(0, true)}
	block := append(make([]byte, 4), stateOf(t, 1)...)
	ignore := func(*audio.AudioBufferHeader, []byte, uint64) error { return nil }
	open := func() *deskClient { // the service learns of the end of a pair a moment later
		for {
			d, err := tryDesk(t, domain)
			if err == nil {
				d.send(t, h, block)
				if err := d.r.Read(t.Context(), ignore); err != nil {
					t.Fatal(err)
				}
				return d
			}
			if ipc.CodeOf(err) != ipc.CodeResourceExhausted {
				t.Fatal(err)
			}
		}
	}
	for _, ends := range []func(*deskClient){
		func(d *deskClient) { d.w.Close(); d.r.Close() },
		func(d *deskClient) { d.r.Close(); d.w.Close() },
		func(d *deskClient) { d.r.CloseWithError(io.ErrNoProgress); d.w.Close() },
		func(d *deskClient) { d.w.CloseWithError(io.ErrNoProgress); d.r.Close() },
	} {
		first := open()
		if _, err := tryDesk(t, domain); ipc.CodeOf(err) != ipc.CodeResourceExhausted {
			t.Errorf("a second pair: %v", err)
		}
		first.send(t, audio.AudioBufferHeaderT{Sequence: 1, Frames: 1, Channels: 1}, block[:4])
		if err := first.r.Read(t.Context(), ignore); err != nil {
			t.Errorf("the first pair, after a second one was refused: %v", err)
		}
		ends(first)
	}
	open()
}

// TestBlocksAllocateNothing sends blocks with changes through a service in this process: neither
// side allocates.
func TestBlocksAllocateNothing(t *testing.T) {
	domain, _ := serveDesk(t)
	d := openDesk(t, domain)
	const frames = 128
	state := stateOf(t, 2)
	first := true
	sequence := uint64(0)
	payload := make([]byte, audioblock.BlockBytes(8*frames, 1, false))
	audioblock.PutChanges(payload, 8*frames, []dsp.Change{{Frame: 3, Param: dsp.Gain, Value: 0.5}})
	fill := func(h *audio.AudioBufferHeader, b []byte) error {
		h.MutateSequence(sequence)
		h.MutateFrames(frames)
		h.MutateChannels(2)
		h.MutateFlags(audioblock.Flags(1, first))
		copy(b[copy(b, payload):], state)
		return nil
	}
	ignore := func(*audio.AudioBufferHeader, []byte, uint64) error { return nil }
	round := func() {
		n := audioblock.BlockBytes(8*frames, 1, first)
		if err := d.w.Write(t.Context(), n, fill); err != nil {
			t.Fatal(err)
		}
		if err := d.r.Read(t.Context(), ignore); err != nil {
			t.Fatal(err)
		}
		first = false
		sequence++
	}
	for range 100 {
		round()
	}
	// A message of levels each 19 blocks, that has no subscriber, is the only thing that allocates.
	if n := testing.AllocsPerRun(2_000, round); n != 0 {
		t.Errorf("%v allocations a block", n)
	}
}
