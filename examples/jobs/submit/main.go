// Command submit makes a job of each line of its standard input, waits until all are done, and
// prints what the queue has counted. The id of a job follows from its line, so a line that was
// submitted before is not counted again.
package main

import (
	"bufio"
	"context"
	"fmt"
	"hash/fnv"
	"log"
	"os"
	"time"

	"github.com/ipcgen/ipcgen/examples/jobs/gen/jobs"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := submit(ctx); err != nil {
		log.Fatal(err)
	}
}

func submit(ctx context.Context) error {
	conn, err := ipc.Connect("jobs")
	if err != nil {
		return err
	}
	defer conn.Close()
	queue := jobs.NewQueueClient(conn)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		h := fnv.New32a()
		h.Write(lines.Bytes())
		job := &jobs.JobT{Id: fmt.Sprintf("job-%08x", h.Sum32()), Text: lines.Text()}
		if _, err := queue.Submit(ctx, job); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for {
		c, err := queue.Count(ctx, &jobs.QueryT{})
		if err != nil {
			return err
		}
		if c.Waiting+c.Running == 0 {
			fmt.Printf("%d jobs done, %d words\n", c.Done, c.Words)
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d jobs wait: is a worker running? %w", c.Waiting, ctx.Err())
		}
	}
}
