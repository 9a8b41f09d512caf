// Command client prints a greeting for each of its arguments.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/examples/greeter/gen/greeter"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := ipc.Dial(ctx, "greeter")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := greeter.NewGreeterClient(conn)
	for _, name := range os.Args[1:] {
		reply, err := client.Greet(ctx, &greeter.HelloT{Name: name})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(reply.Text)
	}
}
