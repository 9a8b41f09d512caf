package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// TestHostileSchemasEnd loads schemas that are large or deep where an implementation could be
// quadratic, recursive or greedy. Each must be accepted or refused soon. A watchdog with a limit
// far above the usual time stands for "never".
func TestHostileSchemasEnd(t *testing.T) {
	const n = 30_000
	list := func(format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"enum values": "enum E: int {" + list("V%d,") + "} table T { x: E = V29999; }",
		"enum values by default": "enum E: int {" + list("V%d,") + "} " +
			list("table T%d { x: E = V29999; }"),
		"bit flags":           "enum E: ulong (bit_flags) {" + list("V%d,") + "}",
		"union members":       "table T {} union U: int {" + list("m%d: T,") + "}",
		"equal enum values":   "enum E: int {" + list("V%d = 1,") + "}",
		"tables":              list("table T%d {}\n") + "table T { x: T0; }",
		"undefined types":     list("table T%d { x: X; y: Missing; }\n"),
		"fields of one table": "table T {" + list("f%d: int;") + "}",
		"same field":          "table T {" + strings.Repeat("f: int;", n) + "}",
		"huge then small tables": "table T {" + list("f%d: int;")[:300_000] + "} " +
			list("table S%d { x: int; }"),
		"attributes": list("attribute a%d;") + "table T (" +
			strings.TrimSuffix(list("a%d,"), ",") + ") {}",
		"same attribute": "table T (" + strings.Repeat("id,", n) + "id) {}",
		"unknown attributes": list("attribute a%d;") + "table T (" +
			strings.TrimSuffix(list("b%d,"), ",") + ") {}",
		"nested vectors": "table T { x: " + strings.Repeat("[", n) + "int" +
			strings.Repeat("]", n) + "; }",
		"open vectors": "table T { x: " + strings.Repeat("[", n),
		"nested calls": "table T { x: float = " + strings.Repeat("sin(", n) + "1" +
			strings.Repeat(")", n) + "; }",
		"open braces":      strings.Repeat("{", n),
		"open tables":      strings.Repeat("table T {", n),
		"open parentheses": "table T " + strings.Repeat("(", n),
		"long path":        "table T { x: a" + strings.Repeat(".a", n) + "; }",
		"long namespace": "namespace a" + strings.Repeat(".a", n) + "; " +
			list("table T%d { x: T0; }"),
		"deep namespace": "namespace a" + strings.Repeat(".a", 60) + "; " +
			list("table T%d { x: T0; y: Missing; }"),
		"namespaces":      list("namespace n%d; table T { x: T; }"),
		"long name":       "table " + strings.Repeat("x", n) + " {} " + list("table T%d {}"),
		"long string":     `attribute "` + strings.Repeat("x", n) + `"; table T {}`,
		"escapes":         `attribute "` + strings.Repeat(`\q`, n) + `"; table T {}`,
		"doc comments":    strings.Repeat("/// doc\n", n) + "table T {}",
		"nested comments": strings.Repeat("/*", n) + "*/ table T {}",
		"methods":         "table T {} rpc_service S {" + list("m%d(T): T;") + "}",
		"words of a default": "enum E: ubyte (bit_flags) { A } table T { x: E = \"A" +
			strings.Repeat(" A", n) + "\"; }",
		"structs of structs": "struct S0 { a: [ulong:8191]; } " + growing(n),
		"digits": "table T { x: int = " + strings.Repeat("1", n) + "; y: double = 1e" +
			strings.Repeat("9", n) + "; }",
		"semicolons": strings.Repeat(";", n),
		"dots":       "table T { x: " + strings.Repeat(".", n) + "; }",
		"include":    strings.Repeat(`include "x.fbs";`, n),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				opts := schema.Options{ReadFile: func(string) ([]byte, error) {
					return []byte(text), nil
				}}
				schemas, diags := schema.Load(opts, "x.fbs")
				if (schemas[0] == nil) != diags.HasErrors() {
					t.Errorf("schema %v with errors %v", schemas[0], diags.Err())
				}
				if err := diags.Render(new(strings.Builder)); err != nil {
					t.Error(err)
				}
			}()
			select {
			case <-done:
			case <-time.After(5 * time.Minute):
				t.Fatal("it does not end")
			}
		})
	}
}

// growing declares structs, each of which contains the previous one many times.
func growing(n int) string {
	var b strings.Builder
	for i := range n / 100 {
		fmt.Fprintf(&b, "struct S%d { a: [S%d:65535]; } ", i+1, i)
	}
	return b.String()
}
