package main

import (
	"context"
	"encoding/json"
	"math"
	"sync"
	"time"

	"github.com/ipcgen/ipcgen/examples/robot/gen/robot"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// safeDistance is where the robot stops in front of an obstacle, in metres.
const safeDistance = 1.0

// A controller keeps the target and watches the sensor. The target is state: it changes by calls
// alone, so every replica has the same. The distance is not: each replica reads the sensor.
type controller struct {
	mu       sync.Mutex
	state    state
	distance float64 // of the last reading; NaN before the first
}

// state is what the replicas share.
type state struct {
	Target  float64
	Changes uint64
}

func newController() *controller { return &controller{distance: math.NaN()} }

// SetTarget implements robot.Controller.
func (c *controller) SetTarget(_ context.Context, req *robot.TargetT) (*robot.AcceptedT, error) {
	if math.IsNaN(req.Speed) || math.Abs(req.Speed) > 3 {
		return nil, ipc.Errorf(ipc.CodeInvalidArgument, "speed %v: choose -3 to 3 m/s", req.Speed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Target = req.Speed
	c.state.Changes++
	return &robot.AcceptedT{Speed: c.state.Target, Changes: c.state.Changes}, nil
}

// GetStatus implements robot.Controller.
func (c *controller) GetStatus(context.Context, *robot.QueryT) (*robot.StatusT, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	speed := c.state.Target
	if !(c.distance > safeDistance) { // also before the first reading
		speed = min(speed, 0)
	}
	return &robot.StatusT{
		Target: c.state.Target, Changes: c.state.Changes, Speed: speed, Distance: c.distance,
	}, nil
}

// Snapshot implements group.State.
func (c *controller) Snapshot() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return json.Marshal(c.state)
}

// Restore implements group.State.
func (c *controller) Restore(snapshot []byte) error {
	var s state
	if err := json.Unmarshal(snapshot, &s); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	return nil
}

// follow keeps the distance up to date. It opens the sensor's stream again whenever the stream
// ends, since the sensor may be restarted. Only the newest reading matters, so the
// stream keeps few and overwrites the oldest.
func (c *controller) follow(ctx context.Context, channel string) {
	o := ipc.StreamOptions{Depth: 2, Payload: 8, Policy: ipc.StreamOverwrite}
	for ctx.Err() == nil {
		r, err := robot.OpenReadingReader(ctx, channel, o)
		for err == nil {
			err = r.Read(ctx, func(reading *robot.Reading, _ []byte, _ uint64) error {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.distance = reading.Distance()
				return nil
			})
		}
		if r != nil {
			r.Close()
		}
		c.mu.Lock()
		c.distance = math.NaN() // blind: GetStatus stops the robot
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
