package main

import (
	"io"
	"strings"
	"testing"
)

// TestGenerateAndBuild does it all for a few tables, and looks at no number.
func TestGenerateAndBuild(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-tables", "3", "-fields", "20", "-runs", "1"}, &out,
		io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"| generate ", "| go build ", "| memory of the compiler "} {
		if !strings.Contains(out.String(), row) {
			t.Errorf("no row %q in:\n%s", row, out.String())
		}
	}
}

func TestGoesOnWithoutFlatc(t *testing.T) {
	var out, said strings.Builder
	if err := run([]string{"-tables", "2", "-runs", "1", "-no-build", "-flatc", "no-such-flatc"},
		&out, &said); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "flatbuffers-compiler") ||
		!strings.Contains(out.String(), " ipcgen |") {
		t.Errorf("prints:\n%s\nand says:\n%s", out.String(), said.String())
	}
}
