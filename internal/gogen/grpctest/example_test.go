package grpctest

import (
	"context"
	"fmt"
	"log"
	"net"

	flatbuffers "github.com/google/flatbuffers/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ipcgen/ipcgen/internal/gogen/grpctest/gen/MyGame/Example"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// A shelf keeps monsters.
type shelf struct {
	Example.UnimplementedMonsterStorage
}

func (shelf) Store(_ context.Context, req *Example.MonsterT) (*Example.StatT, error) {
	return &Example.StatT{Id: "kept " + req.Name}, nil
}

// One implementation serves both protocols.
func Example_bothProtocols() {
	storage := shelf{}
	overMemory := ipc.NewServer(Example.NewMonsterStorageService(storage))
	overGRPC := grpc.NewServer(grpc.ForceServerCodec(flatbuffers.FlatbuffersCodec{}))
	Example.RegisterMonsterStorageServer(overGRPC, Example.NewMonsterStorageServer(storage))

	network := ipctest.NewNetwork()
	channel, err := ipc.Listen("storage", network)
	if err != nil {
		log.Fatal(err)
	}
	go overMemory.Serve(context.Background(), channel)
	defer overMemory.Close()
	near, err := ipc.Dial(context.Background(), "storage", network)
	if err != nil {
		log.Fatal(err)
	}
	defer near.Close()
	stat, err := Example.NewMonsterStorageIPCClient(near).Store(context.Background(),
		&Example.MonsterT{Name: "Orc"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stat.Id)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go overGRPC.Serve(l)
	defer overGRPC.Stop()
	conn, err := grpc.NewClient(l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(flatbuffers.FlatbuffersCodec{})))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	reply, err := Example.NewMonsterStorageClient(conn).Store(context.Background(), monster("Elf"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(reply.Id()))
	// Output:
	// kept Orc
	// kept Elf
}

// A server of gRPC alone uses FlatBuffers' codec.
func Example_server() {
	s := grpc.NewServer(grpc.ForceServerCodec(flatbuffers.FlatbuffersCodec{}))
	Example.RegisterMonsterStorageServer(s, Example.NewMonsterStorageServer(shelf{}))
	s.Stop()
}
