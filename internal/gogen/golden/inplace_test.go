package golden_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/gen/audio"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/kitchen"
	"github.com/ipcgen/ipcgen/internal/gogen/golden/shared"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// mixer implements the demo's service; its methods in place answer with the same.
type mixer struct {
	audio.UnimplementedAudioControl
}

func (mixer) SetParam(_ context.Context, req *audio.SetParamT) (*audio.AckT, error) {
	if req.Value != 0.5 {
		return nil, ipc.Errorf(ipc.CodeInvalidArgument, "value %v", req.Value)
	}
	return &audio.AckT{Status: audio.StatusNotRunning}, nil
}

func (mixer) setParam(_ context.Context, req audio.SetParam,
	reply ipc.InPlaceReply[audio.Ack]) error {
	if req.Value() != 0.5 {
		return ipc.Errorf(ipc.CodeInvalidArgument, "value %v", req.Value())
	}
	status := audio.StatusNotRunning
	return reply.Build(32, func(b *flatbuffers.Builder, refSeq uint64) flatbuffers.UOffsetT {
		audio.AckStart(b)
		audio.AckAddRefSeq(b, refSeq)
		audio.AckAddStatus(b, status)
		return audio.AckEnd(b)
	})
}

func buildHalf(b *flatbuffers.Builder) flatbuffers.UOffsetT { return buildSetParam(b, 0.5) }

func buildSetParam(b *flatbuffers.Builder, v float32) flatbuffers.UOffsetT {
	audio.SetParamStart(b)
	audio.SetParamAddValue(b, v)
	return audio.SetParamEnd(b)
}

// mixers are the ways to serve a mixer.
var mixers = map[string][]ipc.ServerOption{
	"plain":            {audio.NewAudioControlService(mixer{})},
	"in place":         {mixInPlace},
	"in place, shared": {mixInPlace, ipc.WithTrustedClients()},
}

var mixInPlace = audio.NewAudioControlInPlaceService(mixer{},
	audio.AudioControlInPlaceHandlers{SetParam: mixer{}.setParam})

// Plain clients and clients in place understand plain handlers and handlers in
// place alike.
func TestInPlaceInEnvelopes(t *testing.T) {
	for name, opts := range mixers {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, opts...)
			inPlace := audio.NewAudioControlInPlaceClient(conn)
			var seq uint64
			for _, size := range []int{0, 32, 4096} {
				seq++
				read := false
				err := inPlace.SetParam(t.Context(), size, buildHalf, func(rep audio.Ack) error {
					read = true
					if rep.Status() != audio.StatusNotRunning || rep.RefSeq() != seq {
						return fmt.Errorf("status %v of request %d", rep.Status(), rep.RefSeq())
					}
					return nil
				})
				if err != nil || !read {
					t.Errorf("request %d in %d bytes: %v", seq, size, err)
				}
			}
			seq++
			ack, err := audio.NewAudioControlClient(conn).SetParam(t.Context(),
				&audio.SetParamT{Value: 0.5})
			if err != nil || ack.Status != audio.StatusNotRunning || ack.RefSeq != seq {
				t.Errorf("a plain call: %+v (%v)", ack, err)
			}
			unread := func(audio.Ack) error { return errors.New("there is no reply") }
			err = inPlace.SetParam(t.Context(), 32,
				func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					return buildSetParam(b, 2)
				}, unread)
			if ipc.CodeOf(err) != ipc.CodeInvalidArgument ||
				!strings.Contains(err.Error(), "value 2") {
				t.Errorf("the handler's error: %v", err)
			}
			err = inPlace.StartStream(t.Context(), 32,
				func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
					audio.StartStreamStart(b)
					return audio.StartStreamEnd(b)
				}, unread)
			if ipc.CodeOf(err) != ipc.CodeUnimplemented {
				t.Errorf("an unimplemented method: %v", err)
			}
			mine := errors.New("mine")
			if err := inPlace.SetParam(t.Context(), 32, buildHalf, func(audio.Ack) error {
				return mine
			}); err != mine {
				t.Errorf("the reader's error came back as %v", err)
			}
		})
	}
}

func TestInPlaceInFrame(t *testing.T) {
	conn := connect(t, kitchen.NewPantryInPlaceService(pantry{}, kitchen.PantryInPlaceHandlers{
		Store: func(_ context.Context, req kitchen.Kitchen,
			reply ipc.InPlaceReply[shared.Item]) error {
			return reply.Build(len(req.Name())+64,
				func(b *flatbuffers.Builder, _ uint64) flatbuffers.UOffsetT {
					name := b.CreateByteString(req.Name())
					shared.ItemStart(b)
					shared.ItemAddName(b, name)
					return shared.ItemEnd(b)
				})
		},
	}))
	c := kitchen.NewPantryInPlaceClient(conn)
	want := fullKitchen()
	err := c.Store(t.Context(), 8192, want.Pack, func(rep shared.Item) error {
		if string(rep.Name()) != want.Name {
			return fmt.Errorf("stored %q", rep.Name())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	err = c.Fetch(t.Context(), 64, (&shared.ItemT{Name: "n"}).Pack,
		func(rep kitchen.Kitchen) error {
			if string(rep.Name()) != "n" || rep.Strict(nil).Leaf(nil).V() != 3 {
				return fmt.Errorf("fetched %v", rep.UnPack())
			}
			return nil
		})
	if err != nil {
		t.Errorf("a plain handler: %v", err)
	}
}

// A call in place allocates nothing, on neither side: both are in this process.
func TestInPlaceAllocatesNothing(t *testing.T) {
	c := audio.NewAudioControlInPlaceClient(connect(t, mixInPlace, ipc.WithTrustedClients()))
	call := func() {
		var last audio.Status
		value := float32(0.5)
		err := c.SetParam(context.Background(), 32,
			func(b *flatbuffers.Builder) flatbuffers.UOffsetT {
				return buildSetParam(b, value)
			}, func(rep audio.Ack) error {
				last = rep.Status()
				return nil
			})
		if err != nil || last != audio.StatusNotRunning {
			t.Fatal(last, err)
		}
	}
	for range 100 {
		call() // until buffers have grown
	}
	if n := testing.AllocsPerRun(1000, call); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// What the peer sends is verified, and has to be the member that the method
// asks for; the errors say what is wrong with it.
func TestMalformedMessagesInEnvelopes(t *testing.T) {
	messages := map[string]struct {
		request, reply func(b *flatbuffers.Builder) // finish them
		want           string
	}{
		"another member": {
			func(b *flatbuffers.Builder) {
				finish(b, &audio.ControlMsgT{Payload: &audio.ControlPayloadT{
					Type: audio.ControlPayloadGetParam, Value: &audio.GetParamT{}}})
			},
			func(b *flatbuffers.Builder) {
				finish(b, &audio.ReplyMsgT{Payload: &audio.ReplyPayloadT{
					Type: audio.ReplyPayloadParamValue, Value: &audio.ParamValueT{}}})
			},
			"Msg.payload: holds ",
		},
		"no member": {
			func(b *flatbuffers.Builder) { finish(b, &audio.ControlMsgT{}) },
			func(b *flatbuffers.Builder) { finish(b, &audio.ReplyMsgT{}) },
			"Msg.payload: holds NONE instead of ",
		},
		"rubbish": {
			func(b *flatbuffers.Builder) {
				b.Finish(b.CreateByteVector([]byte(
					"no table at all")))
			},
			func(b *flatbuffers.Builder) {
				b.Finish(b.CreateByteVector([]byte(
					"no table at all")))
			},
			"Msg: ",
		},
	}
	for name, m := range messages {
		for served, opts := range mixers {
			t.Run("request, "+name+", "+served, func(t *testing.T) {
				err := connect(t, opts...).InvokeInPlace(t.Context(), &ipc.InPlaceCall{
					Method: forgedSetParam(nil).Info(), Size: 256,
					Build: func(b *flatbuffers.Builder, _ uint64) { m.request(b) },
					Read:  func([]byte) error { return errors.New("there is no reply") },
				})
				if ipc.CodeOf(err) != ipc.CodeInvalidArgument ||
					!strings.Contains(err.Error(), "malformed request: Control"+m.want) {
					t.Error(err)
				}
			})
		}
		t.Run("reply, "+name, func(t *testing.T) {
			conn := connect(t,
				ipc.NewService(audio.AudioControlProtocol, ipc.Handle(forgedSetParam(m.reply),
					func(context.Context, *audio.SetParamT) (*audio.AckT,
						error) {
						return &audio.AckT{}, nil
					})))
			_, plain := audio.NewAudioControlClient(conn).SetParam(t.Context(), &audio.SetParamT{})
			inPlace := audio.NewAudioControlInPlaceClient(conn).SetParam(t.Context(), 64, buildHalf,
				func(audio.Ack) error { return errors.New("a malformed reply was read") })
			for _, err := range []error{plain, inPlace} {
				if ipc.CodeOf(err) != ipc.CodeCorrupt ||
					!strings.Contains(err.Error(), "malformed reply") ||
					!strings.Contains(err.Error(), "Reply"+m.want) {
					t.Error(err)
				}
			}
		})
	}
}

// finish finishes a buffer around its root.
func finish(b *flatbuffers.Builder, root interface {
	Pack(*flatbuffers.Builder) flatbuffers.UOffsetT
}) {
	b.Finish(root.Pack(b))
}

// forgedSetParam is a method that looks to the peer like SetParam, and that
// replies with whatever reply finishes.
func forgedSetParam(reply func(b *flatbuffers.Builder)) *ipc.Method[audio.SetParamT, audio.AckT] {
	return ipc.NewMethod(audio.AudioControlProtocol, ipc.MethodSpec[audio.SetParamT, audio.AckT]{
		Name: "SetParam", ID: 0x9930e67a, // as generated
		DecodeRequest: func([]byte, *audio.SetParamT) (uint64, error) { return 0, nil },
		EncodeReply: func(b *flatbuffers.Builder, _, _ uint64, _ *audio.AckT) error {
			reply(b)
			return nil
		},
	})
}

// Where the envelope of the replies has a ref_seq, it is filled: by a plain
// handler and by one in place.
func TestReplyEnvelopesReferToTheirRequest(t *testing.T) {
	weigh := ipc.NewMethod(kitchen.OracleProtocol,
		ipc.MethodSpec[kitchen.LeafT, kitchen.MaybeT]{Name: "weigh", ID: oracleWeigh})
	for name, service := range map[string]*ipc.Service{
		"plain": kitchen.NewOracleService(new(oracle)),
		"in place": kitchen.NewOracleInPlaceService(new(oracle), kitchen.OracleInPlaceHandlers{
			Weigh: func(_ context.Context, _ kitchen.Leaf,
				reply ipc.InPlaceReply[kitchen.Maybe]) error {
				return reply.Build(16, func(b *flatbuffers.Builder, _ uint64) flatbuffers.UOffsetT {
					return new(kitchen.MaybeT).Pack(b)
				})
			},
		}),
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, service)
			for want := range uint64(3) {
				want++
				err := conn.InvokeInPlace(t.Context(), &ipc.InPlaceCall{
					Method: weigh.Info(), Size: 128,
					Build: func(b *flatbuffers.Builder, seq uint64) {
						finish(b,
							&kitchen.AskT{Seq: seq,
								What: &kitchen.WhatT{Type: kitchen.WhatLeaf,
									Value: &kitchen.LeafT{}}})
					},
					Read: func(reply []byte) error {
						if err := kitchen.VerifyTell(reply); err != nil {
							return err
						}
						if got := kitchen.GetRootAsTell(reply, 0).RefSeq(); got != want {
							t.Errorf("request %d has a reply to %d", want, got)
						}
						return nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// oracleWeigh is the number of kitchen.Oracle's method weigh, as generated.
const oracleWeigh = 0x68d19255

// diary implements a service whose envelopes are in another package, under names
// that it does not export.
type diary struct{}

func (diary) Write(_ context.Context, note *shared.NoteT) (*shared.DoneT, error) {
	return &shared.DoneT{Words: int32(len(strings.Fields(note.Text)))}, nil
}

func TestEnvelopesOfAnotherPackage(t *testing.T) {
	readOnly := make(chan bool, 1)
	conn := connect(t, kitchen.NewDiaryService(diary{}), ipc.WithServerInterceptor(
		func(ctx context.Context, call *ipc.ServerCall, next func(context.Context) error) error {
			readOnly <- call.Method.ReadOnly
			return next(ctx)
		}))
	done, err := kitchen.NewDiaryClient(conn).Write(t.Context(), &shared.NoteT{Text: "two words"})
	if err != nil || done.Words != 2 || done.RefSeq != 1 {
		t.Errorf("%+v (%v)", done, err)
	}
	if !<-readOnly {
		t.Error("a method with the attribute read_only is not ReadOnly")
	}
}
