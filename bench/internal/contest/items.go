package contest

import (
	"context"
	"iter"

	"github.com/ipcgen/ipcgen/bench/gen/bulk"
	"github.com/ipcgen/ipcgen/bench/internal/peer"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// items are those of a streaming call, which the server yields in a row.
func items() *Contestant {
	return &Contestant{
		Key: "items", Name: "ipcgen, items of a streaming call", Ours: true,
		Note:     "a method that streams from the server: generated, verified",
		Serve:    serveFlow,
		OpenFlow: func(s peer.Setup) (Flow, error) { return dialFlow(s) },
	}
}

// itemBack is an item of a streaming call that the server answers by an item.
func itemBack() *Contestant {
	return &Contestant{
		Key: "itemback", Name: "ipcgen, item there and back", Ours: true, Sizes: []int{64},
		Note:  "a method that streams both ways, by the helper that goes step by step",
		Serve: serveFlow,
		Open: func(s peer.Setup) (Session, error) {
			c, err := dialFlow(s)
			if err != nil {
				return nil, err
			}
			return &jam{c, ipc.OpenBidiStream(context.Background(), c.client.Jam)}, nil
		},
	}
}

func serveFlow(s peer.Setup) error {
	l, err := ipc.Listen(callChannel, ipc.WithDomain(s.Dir))
	if err != nil {
		return err
	}
	go ipc.NewServer(bulk.NewFlowService(flow{}), window(s)).Serve(context.Background(), l)
	return nil
}

// window is the default one, or four items: an item may take half of it.
func window(s peer.Setup) ipc.Option {
	return ipc.WithStreamingWindow(max(ipc.DefaultStreamingWindow, 4*s.Size))
}

// A flow serves streams.
type flow struct{ bulk.UnimplementedFlow }

func (flow) Levels(context.Context, *bulk.LevelT) iter.Seq2[*bulk.LevelT, error] {
	return func(yield func(*bulk.LevelT, error) bool) {
		for level := new(bulk.LevelT); yield(level, nil); {
		}
	}
}

func (flow) Blocks(_ context.Context, first *bulk.BlockT) iter.Seq2[*bulk.BlockT, error] {
	return func(yield func(*bulk.BlockT, error) bool) {
		for yield(first, nil) {
		}
	}
}

func (flow) Jam(_ context.Context, in iter.Seq2[*bulk.LevelT, error]) iter.Seq2[*bulk.LevelT,
	error] {
	return in
}

func dialFlow(s peer.Setup) (*flowClient, error) {
	c, err := ipc.Dial(context.Background(), callChannel, ipc.WithDomain(s.Dir), window(s))
	if err != nil {
		return nil, err
	}
	return &flowClient{c, bulk.NewFlowClient(c), s.Size}, nil
}

// A flowClient takes what a server yields.
type flowClient struct {
	*ipc.Conn
	client *bulk.FlowClient
	size   int
}

// Take implements Flow.
func (c *flowClient) Take(more func() bool) error {
	ctx := context.Background()
	if c.size <= 64 {
		for _, err := range c.client.Levels(ctx, new(bulk.LevelT)) {
			if err != nil || !more() {
				return err
			}
		}
		return nil
	}
	for _, err := range c.client.Blocks(ctx, &bulk.BlockT{Data: make([]byte, c.size)}) {
		if err != nil || !more() {
			return err
		}
	}
	return nil
}

// A jam is a call that streams both ways.
type jam struct {
	c      *flowClient
	stream *ipc.BidiStream[bulk.LevelT, bulk.LevelT]
}

func (j *jam) Call() error {
	if err := j.stream.Send(new(bulk.LevelT)); err != nil {
		return err
	}
	_, err := j.stream.Receive()
	return err
}

func (j *jam) Close() error {
	_ = j.stream.Close()
	return j.c.Close()
}
