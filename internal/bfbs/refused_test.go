package bfbs

import (
	"bytes"
	"testing"

	"github.com/ipcgen/ipcgen/internal/diag"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// loadKinds returns the additional schema, which the caller may change.
func loadKinds(t testing.TB) *schema.Schema {
	t.Helper()
	s := loadFile(kinds)
	if s == nil {
		t.Fatalf("%s does not load", kinds)
	}
	return s
}

func object(s *schema.Schema, name string) *schema.Object {
	for _, o := range s.Objects {
		if o.FullName() == name {
			return o
		}
	}
	return nil
}

func field(s *schema.Schema, owner, name string) *schema.Field {
	for _, f := range object(s, owner).Fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func enum(s *schema.Schema, name string) *schema.Enum {
	for _, e := range s.Enums {
		if e.FullName() == name {
			return e
		}
	}
	return nil
}

const (
	leaf   = "kinds.inner.Leaf"
	tree   = "kinds.inner.Tree"
	block  = "kinds.inner.Block"
	sample = "kinds.inner.Sample"
)

// TestRefuses writes schemas that break a rule of the language. Their buffers are valid, so only
// the reader can refuse them. It must, because names and numbers of the model go into Go source.
func TestRefuses(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		spoil        func(s *schema.Schema)
	}{
		{"a name that is code", "is not a name", func(s *schema.Schema) {
			object(s, leaf).Name = "Leaf struct{}\nfunc init() {}"
		}},
		{"a field name that is code", "is not a name", func(s *schema.Schema) {
			field(s, leaf, "tiny").Name = "a b"
		}},
		{"an empty name", "is not a name", func(s *schema.Schema) {
			enum(s, "kinds.inner.Wide").Values[0].Name = ""
		}},
		{"two types of one name", "declared twice", func(s *schema.Schema) {
			object(s, tree).Name = "Leaf"
		}},
		{"two fields of one name", "two fields", func(s *schema.Schema) {
			field(s, leaf, "tiny").Name = "huge"
		}},
		{"two values of one name", "two values", func(s *schema.Schema) {
			enum(s, "kinds.inner.Flags").Values[0].Name = "B"
		}},
		{"two equal values", "two values 3", func(s *schema.Schema) {
			enum(s, "kinds.inner.Wide").Values[1].Value = 3
		}},
		{"a value out of range", "does not fit", func(s *schema.Schema) {
			enum(s, "kinds.inner.Flags").Values[0].Value = -1
		}},
		{"an enum of floats", "underlying type", func(s *schema.Schema) {
			enum(s, "kinds.inner.Flags").Underlying = schema.Float
		}},
		{"an enum without values", "no value", func(s *schema.Schema) {
			enum(s, "kinds.inner.Wide").Values = nil
		}},
		{"a union without NONE", "NONE", func(s *schema.Schema) {
			e := enum(s, "kinds.inner.Text")
			e.Values = e.Values[1:]
		}},
		{"a union of numbers", "not a member", func(s *schema.Schema) {
			enum(s, "kinds.inner.Text").Values[2].Type.Base = schema.Int
		}},
		{"a gap between ids", "is the next", func(s *schema.Schema) {
			field(s, leaf, "noted").ID++
		}},
		{"a wrong slot", "its offset is", func(s *schema.Schema) {
			field(s, leaf, "noted").Offset += 2
		}},
		{"a union without a tag", "tag", func(s *schema.Schema) {
			field(s, tree, "any_type").Name = "anytype"
		}},
		{"a required number", "required", func(s *schema.Schema) {
			field(s, leaf, "on").Required = true
		}},
		{"a default out of range", "does not fit", func(s *schema.Schema) {
			field(s, leaf, "old").Default.Int = 1 << 20
		}},
		{"a default that is no value", "is not a value", func(s *schema.Schema) {
			field(s, leaf, "high").Default.Int = 4
		}},
		{"two keys", "key", func(s *schema.Schema) { field(s, leaf, "on").Key = true }},
		{"a vector as the key", "key", func(s *schema.Schema) {
			field(s, leaf, "name").Key = false
			field(s, leaf, "list").Key = true
		}},
		{"an array in a table", "cannot hold", func(s *schema.Schema) {
			field(s, leaf, "list").Type.Base = schema.Array
		}},
		{"a string in a struct", "cannot hold", func(s *schema.Schema) {
			field(s, sample, "id").Type.Base = schema.String
		}},
		{"an array of nothing", "length 0", func(s *schema.Schema) {
			field(s, sample, "mix").Type.FixedLength = 0
		}},
		{"a struct that holds itself", "contains itself", func(s *schema.Schema) {
			field(s, block, "samples").Type.Object = object(s, block)
		}},
		{"a struct of another size", "has 48 bytes", func(s *schema.Schema) {
			object(s, block).Size = 64
		}},
		{"a wrong offset in a struct", "its offset is", func(s *schema.Schema) {
			field(s, block, "flags").Offset = 36
		}},
		{"a wild alignment", "alignment", func(s *schema.Schema) { object(s, sample).Align = 3 }},
		{"a vector of vectors", "cannot be the element", func(s *schema.Schema) {
			field(s, leaf, "list").Type.Element = schema.Vector
		}},
		{"an unknown type", "invalid", func(s *schema.Schema) {
			field(s, leaf, "list").Type.Element = 77
		}},
		{"64-bit offsets", "64-bit offsets", func(s *schema.Schema) {
			field(s, leaf, "list").Type.Base = schema.Vector64
		}},
		{"a nested buffer of nothing", "nested buffer", func(s *schema.Schema) {
			field(s, leaf, "buffer").Attributes[0].Value = "Wood"
		}},
		{"a nested buffer in a number", "only a [ubyte]", func(s *schema.Schema) {
			field(s, leaf, "buffer").Type.Element = schema.Int
		}},
		{"an unknown hash", "hash", func(s *schema.Schema) {
			field(s, leaf, "hashed").Attributes[0].Value = "md5"
		}},
		{"a shared number", "shared", func(s *schema.Schema) {
			field(s, leaf, "once").Type.Base = schema.Int
		}},
		{"a struct as the root", "root type", func(s *schema.Schema) { s.Root = object(s, block) }},
		{"a struct as a request", "is not one of its tables", func(s *schema.Schema) {
			s.Services[0].Methods[0].Request = object(s, block)
		}},
		{"two methods of one name", "two methods", func(s *schema.Schema) {
			s.Services[1].Methods[1].Name = "second"
		}},
		{"two services of one name", "declared twice", func(s *schema.Schema) {
			s.Services[1].Name = "A"
		}},
		{"an unknown way of streaming", "streaming", func(s *schema.Schema) {
			s.Services[1].Methods[0].Attributes[0].Value = "sideways"
		}},
		{"a long identifier", "identifier", func(s *schema.Schema) { s.FileIdentifier = "KINDS" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := loadKinds(t)
			test.spoil(s)
			mustRefuse(t, encode(s), test.reason)
		})
	}
}

// TestDamage reads a valid binary schema cut short at every length, which must be refused, and with
// every byte changed, which must not cause a panic.
func TestDamage(t *testing.T) {
	sound := encode(loadKinds(t))
	end := len(bytes.TrimRight(sound, "\x00")) // a terminator and padding follow
	for n := range end {
		mustRefuse(t, sound[:n:n], "")
	}
	damaged := make([]byte, len(sound))
	for i := range sound {
		for _, change := range []byte{0x01, 0x80, 0xff} {
			copy(damaged, sound)
			damaged[i] ^= change
			var diags diag.List
			if s := Read("kinds.bfbs", damaged, &diags); s == nil && !diags.HasErrors() {
				t.Fatalf("byte %d ^ %#x: refused without a reason", i, change)
			}
		}
	}
}

// TestSizePrefix reads a binary schema with a size prefix.
func TestSizePrefix(t *testing.T) {
	sound := encode(loadKinds(t))
	n := len(sound)
	prefixed := append([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, sound...)
	var diags diag.List
	if Read("kinds.bfbs", prefixed, &diags) == nil {
		t.Error(diags.Err())
	}
	prefixed[0]++
	mustRefuse(t, prefixed, "size prefix")
}

// TestRootFile reads schemas whose files include each other. Only the name of the binary schema can
// tell from which file it was made.
func TestRootFile(t *testing.T) {
	data := encode(loadKinds(t))
	for name, root := range map[string]string{"kinds.bfbs": "//kinds.fbs",
		"dir/shared.bfbs": "//shared.fbs"} {
		var diags diag.List
		s := Read(name, data, &diags)
		if s == nil {
			t.Fatal(diags.Err())
		}
		for _, f := range s.Files {
			if f.Root != (f.Name == root) {
				t.Errorf("%s: root of %s is %t", name, f.Name, f.Root)
			}
		}
	}
	var diags diag.List
	if Read("other.bfbs", data, &diags) != nil {
		t.Error("a root was guessed")
	}
}
