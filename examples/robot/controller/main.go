// Command controller runs the robot's controller as a group: a primary, and a standby that has the
// same state and takes over when the primary dies. The command starts itself again for each
// replica.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	"github.com/ipcgen/ipcgen/runtime/group"
)

const service = "robot_controller"

func main() {
	log.SetFlags(0)
	run := supervise
	if len(os.Args) == 2 && os.Args[1] == "replica" {
		run = replica
	}
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// supervise starts the replicas and keeps them running until the process is told to end.
func supervise(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	g, err := group.Start(ctx, group.Config{
		Service:     service,
		Command:     func(int) *exec.Cmd { return exec.Command(self, "replica") },
		Replication: &group.Replication{},
		Events: func(ev group.Event) {
			switch ev.Kind {
			case group.Died, group.Promoted, group.InSync:
				fmt.Printf("controller: %s %s\n", ev.Replica, ev.Kind)
			}
		},
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return g.Shutdown(context.Background())
}

// replica is the process of one replica.
func replica(ctx context.Context) error {
	c := newController()
	go c.follow(ctx, "robot_sensor")
	return group.Run(ctx, group.RunConfig{Join: group.JoinConfig{State: c}},
		robot.NewControllerService(c))
}
