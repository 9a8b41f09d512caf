package ipc_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/ipcgen/ipcgen/gen/mixing"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// A tally is a carrier in front of another one: it counts what it carries. A carrier to another
// machine would send method, body and metadata, and make an Outbound of what comes back.
type tally struct {
	next  ipc.Carrier
	bytes atomic.Int64
}

func (c *tally) Handle(ctx context.Context, in *ipc.Inbound) (ipc.Outbound, error) {
	c.bytes.Add(int64(len(in.Body)))
	return c.next.Handle(ctx, in)
}

// Calls of a generated client reach the handlers of a service without a connection.
func ExampleNewCarrierClient() {
	handler, err := ipc.NewHandler(mixing.NewMixerService(desk{}))
	if err != nil {
		fmt.Println(err)
		return
	}
	carrier := &tally{next: handler}
	client, err := ipc.NewCarrierClient(carrier)
	if err != nil {
		fmt.Println(err)
		return
	}
	mixer := mixing.NewMixerClient(client)
	for level, err := range mixer.Levels(context.Background(), &mixing.LevelsRequestT{Count: 3}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(level.Peak)
	}
	fmt.Println(carrier.bytes.Load() > 0)
	// Output:
	// 0
	// 0.5
	// 1
	// true
}
