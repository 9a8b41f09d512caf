package dynamic

import (
	"fmt"
	"strconv"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// FullText is like [Schema.Text], but has also the scalars that are absent, with their defaults.
func (s *Schema) FullText(full string, reply bool, buf []byte) ([]byte, error) {
	return s.text(full, reply, buf, &fbjson.WriteOptions{Defaults: true})
}

// CheckField returns an error if the messages of a method, or one-way messages, have no field at a
// path of names, or their replies. Places of elements may stand in the path.
func (s *Schema) CheckField(full string, reply bool, path []string) error {
	f, err := s.form(full, reply)
	if err != nil {
		return err
	}
	root := f.Root
	if f.Payload != "" {
		root = f.member()
	}
	return checkField(root, path)
}

// member returns the table or struct that travels in the envelope, or nil if it is a string.
func (f *form) member() *schema.Object {
	for _, field := range f.Root.Fields {
		if field.Name != f.Payload {
			continue
		}
		for _, v := range field.Type.Enum.Values {
			if v.Name == f.Member {
				return v.Type.Object
			}
		}
	}
	return nil
}

func checkField(o *schema.Object, path []string) error {
	for len(path) > 0 {
		if _, err := strconv.Atoi(path[0]); err != nil {
			break
		}
		path = path[1:]
	}
	if len(path) == 0 {
		return nil
	}
	if o == nil {
		return fmt.Errorf("there is no field %s in what is no table", path[0])
	}
	var names []string
	for _, f := range o.Fields {
		if f.Name == path[0] {
			return checkInside(f, path[1:])
		}
		names = append(names, f.Name)
	}
	kind := "table"
	if o.IsStruct {
		kind = "struct"
	}
	hint := ""
	if near := diag.Nearest(path[0], names); near != "" {
		hint = "; did you mean " + near + "?"
	}
	return fmt.Errorf("the %s %s has no field %q%s", kind, o.FullName(), path[0], hint)
}

// checkInside checks the rest of a path inside a field.
func checkInside(f *schema.Field, rest []string) error {
	switch {
	case f.FlexBuffer:
		return nil // it has what its writer likes
	case f.NestedFlatbuffer != nil:
		return checkField(f.NestedFlatbuffer, rest)
	case f.Tag == nil:
		return checkField(f.Type.Object, rest)
	}
	err := error(nil)
	for _, v := range f.Type.Enum.Values {
		if v.Type.Base == schema.None {
			continue
		}
		if err = checkField(v.Type.Object, rest); err == nil {
			return nil
		}
	}
	return err
}
