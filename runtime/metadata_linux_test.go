package ipc_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	ipc "github.com/ipcgen/ipcgen/runtime"
	"github.com/ipcgen/ipcgen/runtime/ipctest"
)

// block makes a block of metadata as on the wire, whose length says n.
func block(n int, pairs string) []byte {
	b := append(binary.NativeEndian.AppendUint32(nil, uint32(n)), pairs...)
	return append(b, make([]byte, -len(b)&7)...)
}

func pair(key, value string) string {
	b := append([]byte{byte(len(key))}, key...)
	return string(append(binary.LittleEndian.AppendUint16(b, uint16(len(value))), value...))
}

// TestMetadataOfAHostilePeer sends requests with metadata that no runtime sends. The server ends
// the connection, and no other one; what is well formed it handles.
func TestMetadataOfAHostilePeer(t *testing.T) {
	good := pair("k", "v")
	for name, c := range map[string]struct {
		block    []byte
		flags    uint32
		accepted bool
	}{
		"well formed":          {block(len(good), good), 0, true},
		"the longest":          {block(4096, pair("k", strings.Repeat("x", 4092))), 0, true},
		"a reserved key":       {block(len(pair("ipcgen-a", "")), pair("ipcgen-a", "")), 0, true},
		"no block":             {nil, 0, false},
		"half a word":          {[]byte{1, 0}, 0, false},
		"no pair":              {block(0, ""), 0, false},
		"more than there is":   {block(100, good), 0, false},
		"more than the limit":  {block(4100, pair("k", strings.Repeat("x", 4096))), 0, false},
		"4 GiB":                {block(-1, good), 0, false},
		"a cut length":         {block(3, "\x01k\x00"), 0, false},
		"a cut value":          {block(4, good[:4]), 0, false},
		"a cut second pair":    {block(len(good)+2, good+"\x01k"), 0, false},
		"a long value":         {block(4, "\x01k\xff\xff"), 0, false},
		"an empty key":         {block(4, "\x00\x01\x00v"), 0, false},
		"upper case":           {block(len(good), pair("K", "v")), 0, false},
		"a reserved key twice": {block(24, pair("ipcgen-ipcgen-a", "value.")), 0, true},
		"a key that resembles": {block(12, pair("IPCGEN\na", "v")), 0, false},
		"control characters":   {block(18, pair("\x00\r\n\x1b[2Jkey", "v2.")), 0, false},
		"an empty own key":     {block(len(pair("ipcgen-", "")), pair("ipcgen-", "")), 0, false},
		"a cancel with it":     {block(len(good), good), ipc.RawCancel, false},
		"a piece with it":      {block(len(good), good), ipc.RawPiece, false},
		"an abort with it":     {block(len(good), good), ipc.RawAbort, false},
		"in pieces, cut":       {block(100, good), ipc.RawRequest | ipc.RawMore, false},
		"in place, cut":        {block(100, good), ipc.RawRequest | ipc.RawGap, false},
		"in pieces, no length": {block(len(good), good)[:8], ipc.RawRequest | ipc.RawMore, false},
	} {
		t.Run(name, func(t *testing.T) {
			net := ipctest.NewNetwork()
			srv := host(t, net, mirrors(nil))
			honest := dial(t, net)
			raw, err := ipc.RawDial(t.Context(), "echo", net)
			if err != nil {
				t.Fatal(err)
			}
			defer raw.End()
			kind := c.flags
			body := c.block
			if kind == 0 {
				kind, body = ipc.RawRequest, append(body, goodBlob...)
			}
			if !raw.Put(ipc.RawFrame{Tag: kind | ipc.RawMetadata, ID: 8,
				Method: methodEcho.Info().ID, Body: body}) {
				t.Fatal("no room")
			}
			for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if f, ok := raw.Get(); ok {
					if !c.accepted {
						t.Errorf("an answer with tag %#x", f.Tag)
					}
					break
				}
				if srv.Corrupted() > 0 {
					if c.accepted {
						t.Error("the server broke the connection off")
					}
					break
				}
				if time.Now().After(end) {
					t.Fatal("neither an answer nor an end")
				}
			}
			still(t, honest)
		})
	}
}
