package natsipc_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/micro"
)

// TestGroupService asks NATS for the services: the members are instances of the group's.
func TestGroupService(t *testing.T) {
	t.Parallel()
	s := groupServer(t)
	nc := groupConn(t, s)
	l := &list{}
	joinList(t, nc, listConfig("a", l), l)
	subject, err := micro.ControlSubject(micro.InfoVerb, "test_list", "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(subject, nil, groupWatchdog)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Description != "member a of the ipcgen group test.list" || info.Version != "0.0.0" {
		t.Errorf("%+v", info)
	}
}
