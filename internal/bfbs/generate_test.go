package bfbs_test

import (
	"fmt"
	"strings"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

func init() { bfbs.Generate = generate }

// generate returns all the code for a schema, or the errors. Positions are omitted, because a
// binary schema has none.
func generate(s *schema.Schema) string {
	var diags diag.List
	var out strings.Builder
	for _, f := range gogen.Generate(s, gogen.Options{ImportPath: "example.com/gen"}, &diags) {
		fmt.Fprintf(&out, "== %s\n%s", f.Path, f.Content)
	}
	for _, d := range diags.All() {
		fmt.Fprintln(&out, d.Message)
	}
	return out.String()
}
