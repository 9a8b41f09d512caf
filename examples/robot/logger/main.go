// Command logger prints one in ten of the sensor's readings as CSV, until the sensor ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := logReadings(ctx)
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func logReadings(ctx context.Context) error {
	// A logger wants every reading, so the sensor waits for it when 64 of them queue up.
	o := ipc.StreamOptions{Depth: 64, Payload: 8, Policy: ipc.StreamBlock}
	r, err := robot.OpenReadingReader(ctx, "robot_sensor", o)
	if err != nil {
		return err
	}
	defer r.Close()
	fmt.Println("number,time,distance")
	for {
		err := r.Read(ctx, func(r *robot.Reading, _ []byte, _ uint64) error {
			if r.Number()%10 == 0 {
				at := time.Unix(0, r.TimeNs()).UTC().Format(time.RFC3339Nano)
				_, err := fmt.Printf("%d,%s,%.3f\n", r.Number(), at, r.Distance())
				return err
			}
			return nil
		})
		if errors.Is(err, io.EOF) {
			return nil // the sensor ended in order
		}
		if err != nil {
			return err
		}
	}
}
