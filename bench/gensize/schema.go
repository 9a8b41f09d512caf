package main

import (
	"bufio"
	"fmt"
	"io"
)

// fieldTypes are what the fields of each table are, in turn. %d is the number
// of another table.
var fieldTypes = []string{
	"int32", "float", "string", "uint8", "Colour", "T%d", "[int32]", "uint64 = 7", "bool", "Point",
	"int16", "double = 0.5", "string", "[string]", "uint32", "[T%d]", "int64", "[ubyte]",
	"float = 1", "Colour = Blue",
}

// writeSchema writes a schema of so many tables with so many fields each, of
// all common types.
func writeSchema(w io.Writer, tables, fields int) error {
	b := bufio.NewWriter(w)
	b.WriteString(`namespace big;

enum Colour : uint8 { Red, Green, Blue }

struct Point { x: float; y: float; z: float; }
`)
	for t := range tables {
		fmt.Fprintf(b, "\n/// Table number %d.\ntable T%d {\n", t, t)
		for f := range fields {
			typ := fieldTypes[f%len(fieldTypes)]
			if typ == "T%d" || typ == "[T%d]" {
				typ = fmt.Sprintf(typ, (t*7+f)%tables)
			}
			fmt.Fprintf(b, "  field_%d: %s;\n", f, typ)
		}
		b.WriteString("}\n")
	}
	b.WriteString("\nroot_type T0;\n")
	return b.Flush()
}
