package conformance

import (
	"context"
	"testing"

	"github.com/ipcgen/ipcgen/internal/echo"
	ipc "github.com/ipcgen/ipcgen/runtime"
)

// healthy is a client that asks its server for the health.
type healthy interface {
	ipc.Caller
	Health(ctx context.Context, protocol string) (ipc.Health, error)
}

// healthyOf returns the client of a subject with health.
func healthyOf(t *testing.T, c ipc.Caller) healthy {
	t.Helper()
	h, ok := c.(healthy)
	if !ok {
		t.Fatal("the client has no method Health; the subject lacks Health")
	}
	return h
}

func expectHealth(t *testing.T, c healthy, protocol string, want ipc.Health) {
	t.Helper()
	if got, err := c.Health(t.Context(), protocol); err != nil || got != want {
		t.Errorf("the health of %q is %v, %v; want %v", protocol, got, err, want)
	}
}

// health asks a server for its health while that changes.
func health(t *testing.T, v *venue) {
	var state ipc.HealthState
	v.host(echo.Service(), ipc.NewService(&ipc.Protocol{Name: "test.Other", Fingerprint: 5}),
		ipc.WithHealth(&state))
	c := healthyOf(t, v.dial(t))
	for _, p := range []string{"", "test.Echo", "test.Other"} {
		expectHealth(t, c, p, ipc.HealthServing)
	}
	set := func(protocol string, h ipc.Health) {
		t.Helper()
		if err := state.Set(protocol, h); err != nil {
			t.Error(err)
		}
	}
	set("", ipc.HealthNotServing) // holds for those for which nothing is set
	set("test.Other", ipc.HealthServing)
	expectHealth(t, c, "", ipc.HealthNotServing)
	expectHealth(t, c, "test.Echo", ipc.HealthNotServing)
	expectHealth(t, c, "test.Other", ipc.HealthServing)
	echo.Still(t, c) // no call is refused for it
	set("", ipc.HealthServing)
	set("test.Other", ipc.HealthNotServing)
	expectHealth(t, c, "test.Echo", ipc.HealthServing)
	expectHealth(t, c, "test.Other", ipc.HealthNotServing)
	got, err := c.Health(t.Context(), "test.None")
	echo.Want(t, err, ipc.CodeNotFound, ipc.Executed, "test.None")
	if got != ipc.HealthNotServing { // also for those who do not look at the error
		t.Errorf("the health of what is not served is %v", got)
	}
}

// healthWhileDraining asks a server that shuts down and still has a call to answer.
func healthWhileDraining(t *testing.T, v *venue) {
	svc, entered, release := waiting(t)
	v.host(svc)
	link := v.link(t)
	c := healthyOf(t, link.Client)
	blocked := echo.Invoke(t.Context(), c, echo.Block, "")
	await(t, entered, blocked)
	expectHealth(t, c, "", ipc.HealthServing)
	down := make(chan error, 1)
	go func() { down <- link.Shutdown(t.Context()) }()
	for {
		got, err := c.Health(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if got == ipc.HealthDraining {
			break
		}
	}
	expectHealth(t, c, "test.Echo", ipc.HealthDraining)
	release()
	if err := <-blocked; err != nil {
		t.Error(err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	for { // the client may know of the drain before it knows of the end
		if _, err := c.Health(t.Context(), ""); err != nil {
			if ipc.CodeOf(err) != ipc.CodeUnavailable {
				t.Errorf("the health of a server that is gone: %v", err)
			}
			break
		}
	}
}
