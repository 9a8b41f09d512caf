package schema_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// FuzzLoad resolves any text, which may include itself and a valid library. No input may cause a
// panic, and a result without errors must be a valid model.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"testdata/refused", "testdata/accepted"} {
		paths, err := filepath.Glob(dir + "/*.fbs")
		if err != nil || len(paths) == 0 {
			f.Fatal("no seeds", err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			if len(text) < 10_000 {
				f.Add(text)
			}
		}
	}
	f.Add([]byte(`include "main.fbs"; include "lib.fbs"; table T { x: lib.Table; }`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fsys := &files{text: map[string]string{
			"main.fbs": string(text),
			"lib.fbs":  `include "main.fbs"; namespace lib; table Table {} enum Enum: byte { A } attribute "mine";`,
		}}
		schemas, diags := schema.Load(fsys.options(), "main.fbs")
		if err := diags.Render(io.Discard); err != nil {
			t.Fatal(err)
		}
		s := schemas[0]
		if (s == nil) != diags.HasErrors() {
			t.Fatalf("schema %v with errors %v", s, diags.Err())
		}
		if s == nil {
			return
		}
		if err := s.Dump(io.Discard); err != nil {
			t.Fatal(err)
		}
		checkModel(t, s)
	})
}

// checkModel checks the properties on which emitters rely.
func checkModel(t *testing.T, s *schema.Schema) {
	t.Helper()
	for _, o := range s.Objects {
		end := 0
		for i, f := range o.Fields {
			if f.ID != i {
				t.Fatalf("field %d of %s has id %d", i, o.Name, f.ID)
			}
			typ := f.Type
			if typ.Base == schema.Obj && typ.Object.File == nil {
				t.Fatalf("%s.%s has an undeclared type", o.Name, f.Name)
			}
			if f.Tag != nil && (i == 0 || o.Fields[i-1] != f.Tag || !f.Tag.IsTag) {
				t.Fatalf("the tag of %s.%s does not precede it", o.Name, f.Name)
			}
			if !o.IsStruct {
				continue
			}
			if f.Offset < end || f.Padding < 0 {
				t.Fatalf("%s.%s overlaps", o.Name, f.Name)
			}
			end = f.Offset + f.Padding + 1
		}
		if o.IsStruct && (o.Size < end || o.Size%o.Align != 0 || o.Size > schema.MaxStructSize) {
			t.Fatalf("struct %s has size %d and alignment %d", o.Name, o.Size, o.Align)
		}
	}
	for _, e := range s.Enums {
		if len(e.Values) == 0 {
			t.Fatalf("enum %s has no value", e.Name)
		}
		for _, v := range e.Values {
			if e.Value(v.Value) != v {
				t.Fatalf("value %s of %s is not found by its number", v.Name, e.Name)
			}
		}
	}
}
