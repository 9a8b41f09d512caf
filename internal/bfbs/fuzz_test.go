package bfbs

import (
	"os"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
)

// FuzzRead reads arbitrary bytes. A result must be a valid schema: code can be generated from it,
// and it can be written and read back.
func FuzzRead(f *testing.F) {
	for _, path := range []string{kinds, "testdata/small.fbs"} {
		s := loadFile(path)
		if s == nil {
			f.Fatalf("%s does not load", path)
		}
		f.Add(encode(s))
		f.Add(encodeBare(s))
	}
	flatcs, err := os.ReadFile("testdata/flatc/kinds.bfbs")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(flatcs)
	f.Fuzz(func(t *testing.T, data []byte) {
		var diags diag.List
		s := Read("kinds.bfbs", data, &diags)
		if s == nil {
			if !diags.HasErrors() {
				t.Fatal("refused without a reason")
			}
			return
		}
		if diags.HasErrors() {
			t.Fatalf("read in spite of %v", diags.Err())
		}
		generate(s)
		back := Read("kinds.bfbs", write(t, s), &diags)
		if back == nil {
			t.Fatalf("what was written is refused: %v", diags.Err())
		}
		if d := firstDifference(modelText(t, back), modelText(t, s)); d != "" {
			t.Error(d)
		}
	})
}
