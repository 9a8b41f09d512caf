package contest

import (
	"net"
	"net/rpc"

	"github.com/ipcgen/ipcgen/bench/internal/peer"
)

// netRPC is the standard library's net/rpc, with its default gob encoding.
func netRPC() *Contestant {
	return &Contestant{
		Key: "netrpc", Name: "net/rpc", Many: true, Shared: true,
		Note: "gob over a Unix socket",
		Serve: func(s peer.Setup) error {
			srv := rpc.NewServer()
			if err := srv.Register(new(RPCService)); err != nil {
				return err
			}
			l, err := net.Listen("unix", socketIn(s.Dir))
			if err != nil {
				return err
			}
			go srv.Accept(l)
			return nil
		},
		Open: func(s peer.Setup) (Session, error) {
			c, err := rpc.Dial("unix", socketIn(s.Dir))
			if err != nil {
				return nil, err
			}
			return &rpcSession{c: c, req: RPCRequest{Data: make([]byte, s.Size)}}, nil
		},
	}
}

// RPCService is exported because net/rpc asks for it, as are its argument and
// its reply.
type RPCService struct{}

// RPCRequest is the request.
type RPCRequest struct{ Data []byte }

// RPCReply is the reply.
type RPCReply struct {
	Ref    uint64
	Status uint8
}

// Put takes a request.
func (*RPCService) Put(req *RPCRequest, rep *RPCReply) error {
	rep.Ref = uint64(len(req.Data))
	return nil
}

type rpcSession struct {
	c   *rpc.Client
	req RPCRequest
}

func (s *rpcSession) Call() error {
	var rep RPCReply
	return s.c.Call("RPCService.Put", &s.req, &rep)
}

func (s *rpcSession) Close() error { return s.c.Close() }
