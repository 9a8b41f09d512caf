package ipc_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

const protocolText = `service t.S
method Get t.Req t.Rep
envelopes t.Ctl t.Ans
table t.Req
field 0 id uint32 0
field 1 name string - required
struct t.Point 8 4
field 0 x float32 0
field 4 y float32 0
enum t.Color uint8
value 0 Red
union t.Any uint8
member 1 Req t.Req
`

// TestCompatibility changes a protocol, one thing at a time, and asks in both
// directions whether the two versions can talk.
func TestCompatibility(t *testing.T) {
	for _, tt := range []struct {
		name, old, new string
		want           string // part of the error; empty: compatible
	}{
		{"the same", "", "", ""},
		{"a field more", "field 1 name string - required\n",
			"field 1 name string - required\nfield 2 more uint8 0\n", ""},
		{"a required field more", "field 1 name string - required\n",
			"field 1 name string - required\nfield 2 more string - required\n", "field 2"},
		{"a field renamed", "field 0 id ", "field 0 key ", `(was: "id")`},
		{"a field renamed, as stated", "field 0 id uint32 0",
			"field 0 key uint32 0 was:name was:id", ""},
		{"a word that is not known yet", "field 0 id uint32 0",
			"field 0 id uint32 0 sealed", `"sealed"`},
		{"no envelopes", "envelopes t.Ctl t.Ans\n", "", "envelopes"},
		{"a table for a struct", "struct t.Point 8 4", "table t.Point", "table"},
		{"described twice", "union t.Any uint8\n", "table t.Req\nunion t.Any uint8\n", "again"},
		{"cut short", "field 0 id uint32 0\n", "field 0 id\n", "too short"},
		{"a field deprecated", "field 0 id uint32 0\n", "field 0 id uint32 0 deprecated\n", ""},
		{"a field of another type", "field 0 id uint32 0", "field 0 id uint64 0", "field 0"},
		{"a field with another default", "field 0 id uint32 0", "field 0 id uint32 7", "field 0"},
		{"a field no longer required", "- required", "-", "field 1"},
		{"a field with another id", "field 0 id uint32 0\nfield 1 name string - required\n",
			"field 1 name string - required\nfield 2 id uint32 0\n", "field 0"},
		{"a struct of another size", "struct t.Point 8 4", "struct t.Point 16 8", "struct t.Point"},
		{"a struct with another field", "field 4 y float32 0", "field 4 y uint32 0",
			"struct t.Point"},
		{"a struct with a field less", "field 4 y float32 0\n", "", "struct t.Point"},
		{"a value more", "value 0 Red\n", "value 0 Red\nvalue 1 Blue\n", ""},
		{"another underlying type", "enum t.Color uint8", "enum t.Color uint16", "enum t.Color"},
		{"a member more", "member 1 Req t.Req\n", "member 1 Req t.Req\nmember 2 Rep t.Rep\n", ""},
		{"another member", "member 1 Req t.Req", "member 1 Req t.Rep", "member 1"},
		{"a method more", "method Get t.Req t.Rep\n",
			"method Get t.Req t.Rep\nmethod Put t.Req t.Rep\n", ""},
		{"a method with another reply", "method Get t.Req t.Rep", "method Get t.Req t.Req",
			"method Get"},
		{"other envelopes", "envelopes t.Ctl t.Ans", "envelopes t.Ctl t.Other", "envelopes"},
		{"rubbish", "table t.Req\n", "tabel t.Req\n", "tabel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &ipc.Protocol{Name: "t.S", Fingerprint: 1, Schema: protocolText}
			b := &ipc.Protocol{Name: "t.S", Fingerprint: 2,
				Schema: strings.Replace(protocolText, tt.old, tt.new, 1)}
			for _, err := range []error{ipc.CheckCompatible(a, b), ipc.CheckCompatible(b, a)} {
				switch {
				case tt.want == "" && err != nil:
					t.Errorf("not compatible: %v", err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("error %v does not name %q", err, tt.want)
				}
			}
		})
	}
}

// TestHostileDescription compares a protocol with a peer's description that is as long as can be,
// and has none of the fields. The time grows with the length, not with its square.
func TestHostileDescription(t *testing.T) {
	describe := func(first, fields int) *ipc.Protocol {
		var b strings.Builder
		b.WriteString("service t.S\ntable t.Req\n")
		for i := range fields {
			fmt.Fprintf(&b, "field %d f%d int8 0\n", first+i, first+i)
		}
		return &ipc.Protocol{Name: "t.S", Fingerprint: uint64(first), Schema: b.String()}
	}
	ours, theirs := describe(1, 5_000), describe(1_000_000, 200_000)
	within(t, "the comparison", func() {
		for _, err := range []error{ipc.CheckCompatible(ours, theirs),
			ipc.CheckCompatible(theirs, ours)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// within ends the test if f hangs.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		panic(what + " hangs")
	}
}
