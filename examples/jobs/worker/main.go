// Command worker takes jobs from the queue, counts their words, and reports the result, until the
// process is interrupted. It waits for the queue while that does not run. Run as many as you like,
// each with a name of its own.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/ipcgen/ipcgen/examples/jobs/gen/jobs"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// patience is how long the worker waits for a queue.
const patience = 24 * time.Hour

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: worker NAME")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := work(ctx, os.Args[1]); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func work(ctx context.Context, name string) error {
	conn, err := ipc.Connect("jobs", ipc.WithPatience(patience))
	if err != nil {
		return err
	}
	defer conn.Close()
	queue := jobs.NewQueueClient(conn)
	fmt.Printf("%s: waiting for jobs\n", name)
	for {
		a, err := queue.Take(ctx, &jobs.WorkerT{Name: name})
		if err != nil {
			return err
		}
		if a.Job == nil {
			continue
		}
		words := len(strings.Fields(a.Job.Text))
		if _, err := queue.Finish(ctx,
			&jobs.ResultT{Id: a.Job.Id, Words: uint32(words)}); err != nil {
			return err
		}
		fmt.Printf("%s: %s has %d words\n", name, a.Job.Id, words)
	}
}
