// Command queue keeps jobs until workers have done them.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/ipcgen/ipcgen/examples/jobs/gen/jobs"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func main() {
	log.SetFlags(0)
	fmt.Println("queue: serving; Ctrl-C ends")
	q := newQueue(10 * time.Second)
	if err := ipc.NewServer(jobs.NewQueueService(q)).Run(context.Background(), "jobs"); err != nil {
		log.Fatal(err)
	}
}
