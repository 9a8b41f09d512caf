// Command robotctl talks to the robot's controller, whichever replica is the primary.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/group"
)

const usage = `usage: robotctl speed METRES_PER_SECOND
       robotctl status
       robotctl primary
`

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := group.Dial(ctx, "robot_controller", group.DialConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	controller := robot.NewControllerClient(client)

	switch args := os.Args[1:]; {
	case len(args) == 2 && args[0] == "speed":
		speed, err := strconv.ParseFloat(args[1], 64)
		if err != nil {
			log.Fatal(err)
		}
		reply, err := controller.SetTarget(ctx, &robot.TargetT{Speed: speed})
		if err != nil {
			// The group's client has sent the call again where that was safe. What is
			// left is for the user to decide.
			log.Fatalf("%v (%v)", err, ipc.OutcomeOf(err))
		}
		fmt.Printf("target %.1f m/s, change %d\n", reply.Speed, reply.Changes)
	case len(args) == 1 && args[0] == "status":
		s, err := controller.GetStatus(ctx, &robot.QueryT{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("target %.1f m/s after %d changes; driving at %.1f m/s, obstacle at %.1f m\n",
			s.Target, s.Changes, s.Speed, s.Distance)
	case len(args) == 1 && args[0] == "primary":
		c, err := client.WaitConnected(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.PID)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}
