package dynamic

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// Extract returns a request or message, or a reply, as a buffer whose root is the message itself,
// even if the message travels in an envelope: many tools cannot show unions. The result keeps the
// envelope beside the message, for [Schema.Restore]. The buffer is verified.
func (s *Schema) Extract(full string, reply bool, buf []byte) ([]byte, error) {
	f, err := s.form(full, reply)
	if err != nil {
		return nil, err
	}
	if err := f.root.Verify(buf); err != nil || !f.enveloped() {
		return buf, err
	}
	t := flatbuffers.Table{Bytes: buf, Pos: flatbuffers.GetUOffsetT(buf)}
	i := slices.IndexFunc(f.Root.Fields, func(field *schema.Field) bool {
		return field.Name == f.Payload
	})
	field := f.Root.Fields[i]
	tag := t.Offset(flatbuffers.VOffsetT(field.Tag.Offset))
	value := t.Offset(flatbuffers.VOffsetT(field.Offset))
	if tag == 0 || value == 0 || !f.isMember(field, t.GetByte(t.Pos+flatbuffers.UOffsetT(tag))) {
		return nil, fmt.Errorf("the envelope does not hold %s", f.Member)
	}
	root := t.Indirect(t.Pos + flatbuffers.UOffsetT(value))
	// The old root goes behind the buffer, where no reader looks.
	out := append(bytes.Clone(buf), buf[:flatbuffers.SizeUOffsetT]...)
	binary.LittleEndian.PutUint32(out, uint32(root))
	return out, f.body.Verify(out)
}

// enveloped reports whether the message is a table in an envelope.
func (f *form) enveloped() bool { return f.Payload != "" && f.body != nil }

// isMember reports whether a tag is that of the message.
func (f *form) isMember(payload *schema.Field, tag byte) bool {
	return slices.ContainsFunc(payload.Type.Enum.Values, func(v *schema.EnumVal) bool {
		return v.Name == f.Member && byte(v.Value) == tag
	})
}

// Restore returns the buffer from which [Schema.Extract] has made another one. It is not verified.
func (s *Schema) Restore(full string, reply bool, buf []byte) ([]byte, error) {
	f, err := s.form(full, reply)
	if err != nil || !f.enveloped() {
		return buf, err
	}
	const word = flatbuffers.SizeUOffsetT
	if len(buf) < 3*word {
		return nil, errors.New("the message lacks its envelope")
	}
	out := bytes.Clone(buf[:len(buf)-word])
	copy(out, buf[len(buf)-word:])
	return out, nil
}
