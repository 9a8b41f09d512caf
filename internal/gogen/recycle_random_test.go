package gogen_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/bfbs"
	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
	"github.com/ipcgen/ipcgen/internal/schematest"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// A textGen writes a random text for a table of a schema.
type textGen struct {
	*rand.Rand
	fill     float64 // how many of the fields are there
	left     int     // so many more tables, and then those alone that must be there
	hopeless bool    // the tables that must be there have no end
}

// table writes a table.
func (g *textGen) table(o *schema.Object, depth int) string {
	if depth > 20 {
		g.hopeless = true
		return "{}"
	}
	g.left--
	var parts []string
	for _, f := range o.Fields {
		if f.Deprecated || f.IsTag ||
			!f.Required && !f.Key && (g.Float64() >= g.fill || depth > 4 || g.left < 0) {
			continue
		}
		switch {
		case f.Type.Base == schema.Union:
			m, text := g.member(f.Type.Enum, depth)
			parts = append(parts, strconv.Quote(f.Tag.Name)+":"+m, strconv.Quote(f.Name)+":"+text)
		case f.Type.Element == schema.Union:
			var tags, values []string
			for range g.length() {
				m, text := g.member(f.Type.Enum, depth)
				tags, values = append(tags, m), append(values, text)
			}
			parts = append(parts, strconv.Quote(f.Tag.Name)+":["+strings.Join(tags, ",")+"]",
				strconv.Quote(f.Name)+":["+strings.Join(values, ",")+"]")
		case f.NestedFlatbuffer != nil:
			parts = append(parts, strconv.Quote(f.Name)+":"+g.table(f.NestedFlatbuffer, depth+1))
		case f.FlexBuffer:
			parts = append(parts, strconv.Quote(f.Name)+":[1,2]")
		default:
			parts = append(parts, strconv.Quote(f.Name)+":"+g.value(f.Type, depth))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// member writes a member of a union, by its number.
func (g *textGen) member(e *schema.Enum, depth int) (number, text string) {
	v := e.Values[1+g.IntN(len(e.Values)-1)] // the first one is NONE
	return strconv.FormatInt(v.Value, 10), g.value(v.Type, depth)
}

// length is that of a vector, or a string.
func (g *textGen) length() int {
	if g.left < 0 {
		return 0
	}
	return []int{0, 1, 2, 3, 7}[g.IntN(5)]
}

func (g *textGen) value(t schema.Type, depth int) string {
	switch t.Base {
	case schema.String:
		n := g.length()
		if g.IntN(50) == 0 {
			n = 5000
		}
		return strconv.Quote(strings.Repeat(string(rune('a'+g.IntN(26))), n))
	case schema.Vector, schema.Array:
		n := t.FixedLength
		if t.Base == schema.Vector {
			n = g.length()
			if t.Element == schema.UByte && g.IntN(20) == 0 {
				n = 9000 // which an object of its own may keep in the memory of the message
			}
		}
		elements := make([]string, n)
		for i := range elements {
			elements[i] = g.value(schema.Type{Base: t.Element, Object: t.Object, Enum: t.Enum},
				depth)
		}
		return "[" + strings.Join(elements, ",") + "]"
	case schema.Obj:
		if !t.Object.IsStruct {
			return g.table(t.Object, depth+1)
		}
		var parts []string
		for _, f := range t.Object.Fields {
			parts = append(parts, strconv.Quote(f.Name)+":"+g.value(f.Type, depth))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return g.scalar(t)
}

func (g *textGen) scalar(t schema.Type) string {
	if t.Enum != nil {
		v := t.Enum.Values[g.IntN(len(t.Enum.Values))].Value
		if t.Base == schema.ULong {
			return strconv.FormatUint(uint64(v), 10)
		}
		return strconv.FormatInt(v, 10)
	}
	size := map[schema.BaseType]int{schema.Byte: 8, schema.Short: 16, schema.Int: 32,
		schema.Long: 64, schema.UByte: 8, schema.UShort: 16, schema.UInt: 32,
		schema.ULong: 64}[t.Base]
	switch t.Base {
	case schema.Bool:
		return strconv.FormatBool(g.IntN(2) == 0)
	case schema.Float, schema.Double:
		return []string{"0.0", "-0.0", "1.5", "-2.25", "1e30", "inf"}[g.IntN(6)]
	case schema.Byte, schema.Short, schema.Int, schema.Long:
		return strconv.FormatInt(g.Int64()>>(64-size)*(1-2*g.Int64N(2)), 10)
	}
	return strconv.FormatUint(g.Uint64()>>(64-size)&math.MaxInt64>>g.IntN(size), 10)
}

// A sample is a table with buffers, in the order in which they are received.
type sample struct {
	Table   string
	Buffers [][]byte
}

// samplesOf returns buffers for the tables of a schema.
func samplesOf(t *testing.T, s *schema.Schema, tables []gogen.Table, prefix string,
	seed uint64) (all []sample) {
	t.Helper()
	types, err := fbjson.Load(bfbs.WriteExact(s, func(f *schema.File) string { return f.Name }))
	if err != nil {
		t.Fatal(err)
	}
	g := &textGen{Rand: rand.New(rand.NewPCG(seed, 1))}
	for _, table := range tables {
		name := strings.Join(append(slices.Clone(table.Object.Namespace), table.Object.Name), ".")
		typ, err := types.Table(name)
		if err != nil {
			t.Fatal(err)
		}
		one := sample{Table: prefix + name}
		g.hopeless = false
		for range 60 {
			g.fill, g.left = []float64{0, 0.3, 0.7, 1}[g.IntN(4)], 100
			text := g.table(table.Object, 0)
			if g.hopeless {
				break
			}
			buf, err := typ.AppendBuffer(nil, []byte(text), &fbjson.ReadOptions{
				ForceDefaults: g.IntN(2) == 0})
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			one.Buffers = append(one.Buffers, buf)
		}
		if !g.hopeless {
			all = append(all, one)
		}
	}
	return all
}

// registration is the file that a package gets beside those that were generated. Its names are
// none that a schema has: the types of one may be called any, or bytes.
const registration = `package %s

import (
	zzfbs "github.com/google/flatbuffers/go"
	zzfb "github.com/ipcgen/ipcgen/runtime/fb"
	zz "%s/recycled"
)
`

const registered = `
var _ = zz.Add(%q, func(zzbuf zz.Bytes, zzused zz.Any, zzmemory zzfb.Memory) zz.Any {
	var zzrcv %s
	zzrcv.Init(zzbuf, zzfbs.GetUOffsetT(zzbuf))
	zzm, _ := zzused.(*%s)
	return zzrcv.UnPackInto(zzm, zzmemory)
}, func(zzb *zzfbs.Builder, zzm zz.Any) { zzb.Finish(zzm.(*%[3]s).Pack(zzb)) })
`

// TestRecycledRandomObjects decodes random messages of random schemas into objects that held other
// messages before, and compares each with a new one: they differ in nothing, nil and empty
// included, and what is new stays as it is. GOGEN_RECYCLED is the number of schemas, and GOGEN_SEED
// the first seed.
func TestRecycledRandomObjects(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("GOGEN_RECYCLED"))
	if n == 0 {
		n = 6
		if testing.Short() {
			n = 3
		}
	}
	seed, _ := strconv.ParseUint(os.Getenv("GOGEN_SEED"), 10, 64)
	module := newModule(t)
	var samples []sample
	imports := new(strings.Builder)
	for ; n > 0; seed++ {
		opts := gogen.Options{ImportPath: fmt.Sprintf("%s/s%d", corpusModule, seed), All: true}
		files := schematest.Random(seed, schematest.Config{})
		schemas, diags := schema.Load(schema.Options{ReadFile: schematest.Reader(files)},
			files[len(files)-1].Name)
		if diags.HasErrors() {
			t.Fatal(render(diags))
		}
		out := gogen.Generate(schemas[0], opts, diags)
		if diags.HasErrors() {
			continue // for a reason that TestRandomSchemas knows
		}
		n--
		// Without the code for connections, which takes long to compile.
		out = slices.DeleteFunc(out, func(f gogen.File) bool {
			return strings.Contains(string(f.Content), `"github.com/ipcgen/ipcgen/runtime"`)
		})
		folder := fmt.Sprintf("s%d", seed)
		write(t, module, folder, out)
		tables := gogen.TablesOf(schemas[0], opts)
		prefix := fmt.Sprintf("seed %d: ", seed)
		samples = append(samples, samplesOf(t, schemas[0], tables, prefix, seed)...)
		texts := make(map[string]string)
		for _, table := range tables {
			o := table.Object
			if texts[table.Folder] == "" {
				texts[table.Folder] = fmt.Sprintf(registration, table.Package, corpusModule)
				fmt.Fprintf(imports, "import _ %q\n", path.Join(opts.ImportPath, table.Folder))
			}
			name := strings.Join(append(slices.Clone(o.Namespace), o.Name), ".")
			texts[table.Folder] += fmt.Sprintf(registered, prefix+name, table.Type, table.ObjectOf)
		}
		for dir, text := range texts {
			file := filepath.Join(module, folder, filepath.FromSlash(dir), "zz_registered.go")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(samples) < 5 {
		t.Fatalf("%d tables have messages", len(samples))
	}
	program, err := os.ReadFile("testdata/recycled/recycled.go")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(samples)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"recycled/recycled.go": string(program),
		"main.go": fmt.Sprintf("package main\n\n%simport %q\n\nfunc main() { recycled.Main() }\n",
			imports, corpusModule+"/recycled"),
		"samples.json": string(data),
	} {
		file := filepath.Join(module, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	goTool(t, module, "build", "-o", "decode", ".")
	if t.Failed() {
		return
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(module, "decode"), "samples.json")
	cmd.Dir = module
	report, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, report)
	}
	t.Logf("%s", report)
}
