package contest

import (
	"context"
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
		Note: "unary calls, protobuf over HTTP/2 over a Unix socket, without TLS",
		Serve: func(s peer.Setup) error {
			l, err := net.Listen("unix", socketIn(s.Dir))
			if err != nil {
				return err
			}
			srv := grpc.NewServer(grpc.MaxRecvMsgSize(2 * MaxSize))
			srv.RegisterService(&grpcService, nil)
			go srv.Serve(l)
			return nil
		},
		Open: func(s peer.Setup) (Session, error) {
			c, err := grpc.NewClient("unix:"+socketIn(s.Dir),
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(2*MaxSize)))
			if err != nil {
				return nil, err
			}
			return &grpcSession{c: c, req: wrapperspb.Bytes(make([]byte, s.Size))}, nil
		},
	}
}

const grpcMethod = "/bench.Bench/Put"

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
}

type grpcSession struct {
	c   *grpc.ClientConn
	req *wrapperspb.BytesValue
}

func (s *grpcSession) Call() error {
	var rep wrapperspb.UInt64Value
	return s.c.Invoke(context.Background(), grpcMethod, s.req, &rep)
}

func (s *grpcSession) Close() error { return s.c.Close() }
