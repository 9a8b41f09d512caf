package report

import (
	"fmt"
	"io"

	"github.com/ipcgen/ipcgen/bench/internal/measure"
)

// Fans writes the table of the messages of one size to several readers, all measured with the same
// numbers of readers.
func Fans(w io.Writer, byCount [][]*measure.Fanned) error {
	head := []string{"publish to the last reader"}
	for _, fs := range byCount {
		of := fmt.Sprintf("%d readers: ", fs[0].Readers)
		if fs[0].Readers == 1 {
			of = "1 reader: "
		}
		head = append(head, of+"p50", "p99", "rate")
	}
	t := NewTable(head...)
	for i, first := range byCount[0] {
		row := []string{first.Fan.Name}
		for _, fs := range byCount {
			f := fs[i]
			if f.Err != nil {
				row = append(row, failed, "", "")
				continue
			}
			row = append(row, Duration(f.P50()), Duration(f.Quantile(99)), Rate(f.Rate()))
		}
		t.Row(row...)
	}
	_, err := t.WriteTo(w)
	return err
}

// Audiences writes the table of what it costs to publish to many subscriptions.
func Audiences(w io.Writer, all []*measure.Audience) error {
	t := NewTable("subscriptions", "publish", "memory of each, both sides")
	moods := []string{"awake", "asleep", "in place"}
	for _, a := range all {
		memory := "–"
		if a.Readers >= 100 { // for few, what the process takes besides is more
			memory = Bytes(a.Memory)
		}
		t.Row(fmt.Sprintf("%d, %s", a.Readers, moods[a.Mood]), Duration(a.Publish), memory)
	}
	_, err := t.WriteTo(w)
	return err
}
