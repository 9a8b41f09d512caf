package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

var robotSchema = filepath.Join("..", "..", "examples", "robot", "robot.fbs")

// TestSubscribe prints the messages of a program's topic, by what its server tells.
func TestSubscribe(t *testing.T) {
	newDomain(t)
	expect(t, 67, "", "no process has used this domain", "", "subscribe", "topic.status")
	p := serve(t, "topic.status")
	expect(t, 0, `"message":{"changes":3,"speed":0.5}}`+"\n",
		"subscribed to robot.Status", "", "subscribe", "-n", "1", "-history", "4", "topic.status")
	expect(t, 1, "", "did you mean robot.Status?", "", "subscribe", "topic.status", "Statsu")
	expect(t, 67, "", "did you mean topic.status?", "", "subscribe", "topic.statos")
	s := start(t, strings.NewReader(""), "subscribe", "-once", "-history", "1", "topic.status",
		"Status")
	s.err.await(t, "subscribed")
	p.Kill()
	s.ends(t, 0, `"number":0,`, "")
}

// TestPublish publishes lines to a subscription of ipcctl, which goes on with the next publisher.
func TestPublish(t *testing.T) {
	newDomain(t)
	publish := func(args ...string) []string {
		return append([]string{"publish", "-schema", robotSchema}, args...)
	}
	expect(t, 1, "", "did you mean robot.Status?", "", publish("c", "Statos", "{}")...)
	expect(t, 1, "", "did you mean speed?", "", publish("c", "Status", `{"sped": 1}`)...)
	r, w := io.Pipe()
	first := start(t, r, publish("-wait", "1", "status", "Status")...)
	first.err.await(t, "publishing")
	expect(t, 77, "", "status", "", publish("status", "Status", "{}")...)
	sub := start(t, strings.NewReader(""), "subscribe", "-n", "4", "status", "Status")
	sub.err.await(t, "subscribed")
	for i := range 2 {
		fmt.Fprintf(w, "{\"changes\": %d}\n", i+1)
	}
	w.Close()
	first.ends(t, 0, "", "published 2 messages")
	sub.err.await(t, "the publisher is gone")
	second := start(t, strings.NewReader("{\"changes\": 3}\n{\"changes\": 4}\n{\"chanes\": 5}"),
		publish("-wait", "1", "status", "Status")...)
	second.ends(t, 1, "", "message 3:1:2: the table robot.Status has no field")
	sub.ends(t, 0, `"break":true,"message":{"changes":3}`, "another publisher from here")
	for i := range 4 {
		if want := fmt.Sprintf(`"changes":%d}`, i+1); !strings.Contains(sub.out.String(), want) {
			t.Errorf("printed %s, and not %s", sub.out, want)
		}
	}
	kept := start(t, strings.NewReader(""), publish("-keep", "kept", "Status", `{"changes": 7}`)...)
	kept.err.await(t, "published 1 message\n")
	expect(t, 0, `"changes":7`, "", "", "subscribe", "-n", "1", "-history", "1", "kept")
	kept.cancel()
	kept.ends(t, exitInterrupted, "", "")
}
