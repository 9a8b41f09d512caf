// Command server serves greetings until it receives SIGINT or SIGTERM.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

type server struct{}

func (server) Greet(_ context.Context, req *greeter.HelloT) (*greeter.GreetingT, error) {
	if req.Name == "" {
		return nil, ipc.Errorf(ipc.CodeInvalidArgument, "a greeting needs a name")
	}
	return &greeter.GreetingT{Text: "Hello, " + req.Name + "!"}, nil
}

func main() {
	fmt.Println("serving; Ctrl-C ends")
	s := ipc.NewServer(greeter.NewGreeterService(server{}))
	if err := s.Run(context.Background(), "greeter"); err != nil {
		log.Fatal(err)
	}
}
