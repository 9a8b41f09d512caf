package contest

import (
	"context"
	"fmt"
	"hash/fnv"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// inPlace is the typed call without copies: requests and replies are built in
// the ring and, once verified, read there.
func inPlace() *Contestant {
	return &Contestant{
		Key: "inplace", Name: "ipcgen, typed call in place", Ours: true, Many: true,
		Note:  "the same messages built and read in the ring, verified both ways; clients are trusted not to rewrite them",
		Serve: serveInPlace,
		Open:  func(s peer.Setup) (Session, error) { return dialInPlace(s) },
	}
}

// setParam and put are the methods of the two services.
func setParam() *ipc.Method[audio.SetParamT, audio.AckT] {
	return ipc.NewMethod(audio.AudioControlProtocol, ipc.MethodSpec[audio.SetParamT, audio.AckT]{
		Name: "SetParam", ID: methodID("audio.AudioControl/SetParam"),
	})
}

func put() *ipc.Method[bulk.BlockT, bulk.TakenT] {
	return ipc.NewMethod(bulk.BulkProtocol, ipc.MethodSpec[bulk.BlockT, bulk.TakenT]{
		Name: "Put", ID: methodID("bulk.Bulk/Put"),
	})
}

func methodID(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

// Room for messages of the audio protocol, and for what surrounds a block.
const (
	smallRoom = 128
	blockRoom = 64
)

func serveInPlace(s peer.Setup) error {
	l, err := ipc.Listen(callChannel, ipc.WithDomain(s.Dir))
	if err != nil {
		return err
	}
	srv := ipc.NewServer(ipc.WithTrustedClients(),
		ipc.NewService(audio.AudioControlProtocol, ipc.HandleInPlace(setParam(), takeParam)),
		ipc.NewService(bulk.BulkProtocol, ipc.HandleInPlace(put(), takeBlock)))
	go srv.Serve(context.Background(), l)
	return nil
}

func takeParam(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
	if err := audio.VerifyControlMsg(req); err != nil {
		return err
	}
	var msg audio.ControlMsg
	msg.Init(req, flatbuffers.GetUOffsetT(req))
	var payload flatbuffers.Table
	if msg.PayloadType() != audio.ControlPayloadSetParam || !msg.Payload(&payload) {
		return ipc.Errorf(ipc.CodeInvalidArgument, "not a SetParam")
	}
	var param audio.SetParam
	param.Init(payload.Bytes, payload.Pos)
	if param.Value() != someValue {
		return ipc.Errorf(ipc.CodeInvalidArgument, "value %v", param.Value())
	}
	return reply.Build(smallRoom, func(b *flatbuffers.Builder, seq, refSeq uint64) {
		audio.AckStart(b)
		audio.AckAddRefSeq(b, refSeq)
		ack := audio.AckEnd(b)
		audio.ReplyMsgStart(b)
		audio.ReplyMsgAddSeq(b, seq)
		audio.ReplyMsgAddPayloadType(b, audio.ReplyPayloadAck)
		audio.ReplyMsgAddPayload(b, ack)
		b.Finish(audio.ReplyMsgEnd(b))
	})
}

func takeBlock(_ context.Context, req []byte, reply *ipc.ReplyBuilder) error {
	if err := bulk.VerifyBlock(req); err != nil {
		return err
	}
	var block bulk.Block
	block.Init(req, flatbuffers.GetUOffsetT(req))
	n := uint64(block.DataLength())
	return reply.Build(smallRoom, func(b *flatbuffers.Builder, _, _ uint64) {
		bulk.TakenStart(b)
		bulk.TakenAddSize(b, n)
		b.Finish(bulk.TakenEnd(b))
	})
}

// An inPlaceSession makes one call again and again.
type inPlaceSession struct {
	conn *ipc.Conn
	call ipc.InPlaceCall
}

const someValue = 0.5

func dialInPlace(s peer.Setup) (*inPlaceSession, error) {
	c, err := ipc.Dial(context.Background(), callChannel, ipc.WithDomain(s.Dir))
	if err != nil {
		return nil, err
	}
	if s.Size <= 64 {
		return &inPlaceSession{c, ipc.InPlaceCall{
			Method: setParam().Info(), Size: smallRoom, Build: buildParam, Read: readAck,
		}}, nil
	}
	data := make([]byte, s.Size)
	return &inPlaceSession{c, ipc.InPlaceCall{
		Method: put().Info(), Size: s.Size + blockRoom,
		Build: func(b *flatbuffers.Builder, _ uint64) {
			at := b.CreateByteVector(data)
			bulk.BlockStart(b)
			bulk.BlockAddData(b, at)
			b.Finish(bulk.BlockEnd(b))
		},
		Read: func(reply []byte) error {
			if err := bulk.VerifyTaken(reply); err != nil {
				return err
			}
			var taken bulk.Taken
			taken.Init(reply, flatbuffers.GetUOffsetT(reply))
			if taken.Size() != uint64(len(data)) {
				return fmt.Errorf("%d bytes of %d were taken", taken.Size(), len(data))
			}
			return nil
		},
	}}, nil
}

func buildParam(b *flatbuffers.Builder, seq uint64) {
	audio.SetParamStart(b)
	audio.SetParamAddValue(b, someValue)
	param := audio.SetParamEnd(b)
	audio.ControlMsgStart(b)
	audio.ControlMsgAddSeq(b, seq)
	audio.ControlMsgAddPayloadType(b, audio.ControlPayloadSetParam)
	audio.ControlMsgAddPayload(b, param)
	b.Finish(audio.ControlMsgEnd(b))
}

func readAck(reply []byte) error {
	if err := audio.VerifyReplyMsg(reply); err != nil {
		return err
	}
	var msg audio.ReplyMsg
	msg.Init(reply, flatbuffers.GetUOffsetT(reply))
	if msg.PayloadType() != audio.ReplyPayloadAck {
		return fmt.Errorf("a reply of type %v", msg.PayloadType())
	}
	return nil
}

func (s *inPlaceSession) Call() error {
	return s.conn.InvokeInPlace(context.Background(), &s.call)
}

func (s *inPlaceSession) Close() error { return s.conn.Close() }
