//go:build ipccrash

package ipc

import (
	"fmt"

	"github.com/ipcgen/ipcgen/internal/record"
	"github.com/ipcgen/ipcgen/internal/sys"
)

// frameKinds are the kinds of records, as crash points name them.
var frameKinds = map[uint32]string{record.Request: "request", record.Reply: "reply",
	record.Error: "error", record.Cancel: "cancel", record.Message: "message",
	record.Open: "open", record.Item: "item", record.End: "end", record.Credit: "credit"}

// crashPoint marks a store that publishes a record, before it and behind it.
func crashPoint(tag uint32, when string) {
	kind, ok := frameKinds[tag&record.KindMask]
	if !ok {
		kind = fmt.Sprint(tag & record.KindMask)
	}
	sys.CrashPoint("frame " + kind + when)
}
