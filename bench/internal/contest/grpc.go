package contest

import (
	"context"
	"errors"
	"net"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// grpcUnix is gRPC over a Unix socket. Its messages are ready-made ones, so
// that no code generator of another project is needed here: bytes for the
// request and a number for the reply.
func grpcUnix() *Contestant {
	return &Contestant{
		Key: "grpc", Name: "gRPC", Many: true, Shared: true,
		Note:  "unary calls, protobuf over HTTP/2 over a Unix socket, without TLS",
		Serve: serveGRPC,
		Open:  func(s peer.Setup) (Session, error) { return dialGRPC(s) },
	}
}

// grpcItems are the items that a server streams over it.
func grpcItems() *Contestant {
	return &Contestant{
		Key: "grpcitems", Name: "gRPC, items of a streaming call",
		Note:     "a method that streams bytes from the server",
		Serve:    serveGRPC,
		OpenFlow: func(s peer.Setup) (Flow, error) { return dialGRPC(s) },
	}
}

func serveGRPC(s peer.Setup) error {
	l, err := net.Listen("unix", socketIn(s.Dir))
	if err != nil {
		return err
	}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(2 * MaxSize))
	srv.RegisterService(&grpcService, nil)
	go srv.Serve(l)
	return nil
}

func dialGRPC(s peer.Setup) (*grpcSession, error) {
	c, err := grpc.NewClient("unix:"+socketIn(s.Dir),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(2*MaxSize),
			grpc.MaxCallRecvMsgSize(2*MaxSize)))
	if err != nil {
		return nil, err
	}
	return &grpcSession{c: c, req: wrapperspb.Bytes(make([]byte, s.Size))}, nil
}

const (
	grpcMethod = "/bench.Bench/Put"
	grpcFlow   = "/bench.Bench/Flow"
)

var grpcService = grpc.ServiceDesc{
	ServiceName: "bench.Bench",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Put",
		Handler: func(_ any, _ context.Context, decode func(any) error,
			_ grpc.UnaryServerInterceptor) (any, error) {
			req := new(wrapperspb.BytesValue)
			if err := decode(req); err != nil {
				return nil, err
			}
			return wrapperspb.UInt64(uint64(len(req.Value))), nil
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName: "Flow", ServerStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			item := new(wrapperspb.BytesValue) // as long as the request
			err := stream.RecvMsg(item)
			for err == nil {
				err = stream.SendMsg(item)
			}
			return err
		},
	}},
}

type grpcSession struct {
	c   *grpc.ClientConn
	req *wrapperspb.BytesValue
}

func (s *grpcSession) Call() error {
	var rep wrapperspb.UInt64Value
	return s.c.Invoke(context.Background(), grpcMethod, s.req, &rep)
}

// Take implements Flow.
func (s *grpcSession) Take(more func() bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := s.c.NewStream(ctx, &grpcService.Streams[0], grpcFlow)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(s.req), stream.CloseSend()); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
			return err
		}
		if !more() {
			return nil
		}
	}
}

func (s *grpcSession) Close() error { return s.c.Close() }
