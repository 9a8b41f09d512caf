package schema_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// largeSchema returns the text of a schema with the given number of tables, of 20 fields each.
func largeSchema(tables int) string {
	types := []string{"int", "string", "[ubyte]", "Color", "double", "[string]", "bool", "ulong"}
	var b strings.Builder
	b.WriteString("namespace a.b;\nenum Color: byte { Red, Green, Blue }\n")
	for i := range tables {
		fmt.Fprintf(&b, "/// Documentation.\ntable Table%d {\n", i)
		for j := range 20 {
			t := types[(i+j)%len(types)]
			if j > 16 {
				t = fmt.Sprintf("Table%d", (i*7+j)%tables) // half of them are forward references
			}
			fmt.Fprintf(&b, "  /// A field.\n  field_%d: %s;\n", j, t)
		}
		b.WriteString("}\n")
	}
	b.WriteString("root_type Table0;\n")
	return b.String()
}

// BenchmarkLoad reads and resolves 2,000 tables of 20 fields.
func BenchmarkLoad(b *testing.B) {
	text := []byte(largeSchema(2000))
	opts := schema.Options{ReadFile: func(string) ([]byte, error) { return text, nil }}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, diags := schema.Load(opts, "large.fbs"); diags.HasErrors() {
			b.Fatal(diags.Err())
		}
	}
}
