package ipc_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ipcgen/ipcgen/gen/audio"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A gauge answers with what lies in the memory of its calls.
type gauge struct {
	audio.UnimplementedAudioControl
	gain float32
}

func (m *gauge) GetParam(ctx context.Context, req *audio.GetParamT) (*audio.ParamValueT, error) {
	rep := ipc.Scratch[audio.ParamValueT](ctx)
	*rep = audio.ParamValueT{ParamId: req.ParamId, Value: m.gain}
	return rep, nil
}

// sum adds up what a server measures.
func sum(ctx context.Context, conn *ipc.Conn) (total float32, err error) {
	control := audio.NewAudioControlClient(ipc.NewRecycler(conn))
	request := audio.GetParamT{ParamId: audio.ParamTypeGain}
	for range 1000 {
		value, err := control.GetParam(ctx, &request)
		if err != nil {
			return 0, err
		}
		total += value.Value // valid until the next GetParam
	}
	return total, nil
}

// Neither side of these calls allocates an object: the caller does not keep its replies, and the
// handler keeps nothing.
func ExampleNewRecycler() {
	network, server := newServer(audio.NewAudioControlService(&gauge{gain: 0.5}),
		ipc.WithRecycling())
	defer server.Close()
	conn, err := ipc.Dial(context.Background(), "audio", network)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(sum(context.Background(), conn))
	// Output: 500 <nil>
}
