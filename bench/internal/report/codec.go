package report

import (
	"fmt"
	"io"
	"time"

	"github.com/ipcgen/ipcgen/bench/internal/codec"
)

// Codec writes the table of what messages cost before and after they travel.
func Codec(w io.Writer, all []*codec.Costs) error {
	t := NewTable("message", "tables in it", "pack", "verify", "verify, a table", "unpack")
	for _, c := range all {
		tables := c.Entries + 1
		t.Row(Bytes(int64(c.Size)), fmt.Sprint(tables), Duration(c.Pack), Duration(c.Verify),
			Duration(c.Verify/time.Duration(tables)), Duration(c.UnPack))
	}
	_, err := t.WriteTo(w)
	return err
}
