package dynamic

import (
	"encoding/json"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// A jsonType is a type as a JSON schema has it.
type jsonType struct {
	Type       string               `json:"type"`
	Properties map[string]*jsonType `json:"properties,omitempty"`
	Items      *jsonType            `json:"items,omitempty"`
	Encoding   string               `json:"contentEncoding,omitempty"`
}

// properties returns the members of the JSON of a struct.
func properties(o *schema.Object) json.RawMessage { return propertiesIn(structType(o)) }

func propertiesIn(t *jsonType) json.RawMessage {
	text, err := json.Marshal(t.Properties)
	if err != nil {
		return nil // it has texts alone
	}
	return text
}

// structType returns the type of the JSON of a struct. Structs do not contain themselves.
func structType(o *schema.Object) *jsonType {
	t := &jsonType{Type: "object", Properties: make(map[string]*jsonType, len(o.Fields))}
	for _, f := range o.Fields {
		if f.Type.Base == schema.Array {
			t.Properties[f.Name] = &jsonType{Type: "array", Items: memberType(f.Type.Elem())}
		} else {
			t.Properties[f.Name] = memberType(f.Type)
		}
	}
	return t
}

// memberType returns the type of the JSON of a field of a struct, or of an element of an array. The
// value of an enum is its name.
func memberType(t schema.Type) *jsonType {
	switch {
	case t.Object != nil:
		return structType(t.Object)
	case t.Enum != nil:
		return &jsonType{Type: "string"}
	case t.Base == schema.Bool:
		return &jsonType{Type: "boolean"}
	case t.Base.IsFloat():
		return &jsonType{Type: "number"}
	}
	return &jsonType{Type: "integer"}
}
