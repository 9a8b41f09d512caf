package ipc

import (
	"context"
	"testing"
	"time"
)

// A call with a timeout costs no allocation and no timer until something waits for its end.
func TestTimeoutsAllocateNothing(t *testing.T) {
	var c boundContext
	limit := timeout{time.Hour, "WithTimeout"}
	if n := testing.AllocsPerRun(100, func() {
		ctx := c.wrap(context.Background(), limit.bind(context.Background()))
		if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil {
			t.Error("the context has no deadline, or is done")
		}
		c.end()
	}); n != 0 || c.Context != nil {
		t.Errorf("%v allocations; left: %v", n, c.Context)
	}
}
