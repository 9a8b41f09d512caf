package schema

import "fmt"

const (
	// MaxFields is the number of fields, including hidden ones, for which a vtable of at most
	// 65,535 bytes has room.
	MaxFields = (65535 - 4) / 2
	// MaxStructSize is the size of the largest struct in bytes. Offsets within an object have 16
	// bits in FlatBuffers.
	MaxStructSize = 65535
	// MaxAlign is the greatest alignment that force_align accepts.
	MaxAlign = 32
)

// NaturalAlign returns the alignment that the fields of a struct require.
func (o *Object) NaturalAlign() int {
	align := 1
	for _, f := range o.Fields {
		align = max(align, f.Type.inlineAlign())
	}
	return align
}

// Layout places the fields of a struct in their order, each at the next multiple of its alignment,
// and rounds the size up to the alignment of the whole: that of the fields, or align if that is
// greater. Structs in the struct must be laid out already. Layout returns an error if the struct is
// too large.
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
		o.Size = 0 // so that the sizes of structs that contain this one stay small
		return fmt.Errorf("struct %s takes %d bytes, and a struct may take %d", o.Name, size,
			MaxStructSize)
	}
	return nil
}

// pad rounds the size up to a multiple of align and returns the number of bytes added.
func (o *Object) pad(align int) int {
	padding := -o.Size & (align - 1)
	o.Size += padding
	return padding
}
