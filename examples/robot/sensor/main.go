// Command sensor offers the readings of a simulated distance sensor as a stream. Every process
// that opens the stream gets all readings from then on.
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"time"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

const period = 20 * time.Millisecond

// send writes a reading per period to one reader, until the reader leaves.
func send(ctx context.Context, w *robot.ReadingWriter) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for number := uint64(1); ; number++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			err := w.Write(ctx, 0, func(r *robot.Reading, _ []byte) error {
				r.MutateNumber(number)
				r.MutateTimeNs(now.UnixNano())
				// An obstacle comes near and goes away again, every ten seconds.
				r.MutateDistance(2 + 1.9*math.Sin(2*math.Pi*float64(now.UnixMilli())/10_000))
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
}

func main() {
	fmt.Println("sensor: serving readings")
	if err := ipc.NewServer(robot.HandleReadingWriter(send)).Run(context.Background(),
		"robot_sensor"); err != nil {
		log.Fatal(err)
	}
}
