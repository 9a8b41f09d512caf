package schema

import "fmt"

const (
	// MaxFields is the number of fields, hidden ones included, that a vtable
	// of at most 65,535 bytes has room for.
	MaxFields = (65535 - 4) / 2
	// MaxStructSize is the size in bytes of the largest struct: FlatBuffers'
	// offsets within an object have 16 bits.
	MaxStructSize = 65535
	// MaxAlign is the greatest alignment that force_align may ask for.
	MaxAlign = 32
)

// NaturalAlign returns the alignment that the fields of a struct demand.
func (o *Object) NaturalAlign() int {
	align := 1
	for _, f := range o.Fields {
		align = max(align, f.Type.inlineAlign())
	}
	return align
}

// Layout places the fields of a struct, whose own structs are laid out, in
// their order, each at the next multiple of its alignment, and rounds the size
// up to the alignment of the whole: that of the fields, or align where greater.
// It fails when the struct is too large.
func (o *Object) Layout(align int) error {
	o.Size, o.Align = 0, max(align, o.NaturalAlign())
	for i, f := range o.Fields {
		if i > 0 {
			o.Fields[i-1].Padding = o.pad(f.Type.inlineAlign())
		}
		f.ID, f.Offset = i, o.Size
		o.Size += f.Type.inlineSize()
	}
	if n := len(o.Fields); n > 0 {
		o.Fields[n-1].Padding = o.pad(o.Align)
	}
	if size := o.Size; size > MaxStructSize {
		o.Size = 0 // so that the sizes of structs of such structs stay small
		return fmt.Errorf("struct %s takes %d bytes, and a struct may take %d", o.Name, size,
			MaxStructSize)
	}
	return nil
}

// pad rounds the size up to a multiple of align and returns by how much.
func (o *Object) pad(align int) int {
	padding := -o.Size & (align - 1)
	o.Size += padding
	return padding
}
