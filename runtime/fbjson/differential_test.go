package fbjson_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

var (
	flatcPath = flag.String("flatc", "", "make the cases anew with this flatc, and record them")
	seed      = flag.Uint64("seed", 1, "of the cases that -flatc makes")
	cases     = flag.Int("cases", 1200, "number of cases that -flatc makes")
)

// A verdict is what flatc says of a text: refused, or what flatc -t makes of the buffer that
// flatc -b has made of it.
type verdict struct {
	Text    string // as a Go string literal
	Refused bool   `json:",omitempty"`
	JSON    string `json:",omitempty"`
}

const verdicts = "testdata/verdicts.jsonl"

// TestAsFlatc compares with what flatc 25.12.19 has made of texts that a generator has made for
// testdata/all.fbs, many of them with a mistake. The texts that flatc accepts and its own
// verifier refuses are in TestRefusedAlthoughFlatcAccepts.
func TestAsFlatc(t *testing.T) {
	if *flatcPath != "" {
		record(t)
	}
	typ := loadFile(t, "testdata/all.fbs").Root()
	read, refused := 0, 0
	for _, v := range readVerdicts(t, verdicts) {
		if v.compare(t, typ) {
			read++
		} else {
			refused++
		}
	}
	if read < 300 || refused < 300 {
		t.Errorf("%d texts were read, %d refused", read, refused)
	}
}

// readVerdicts reads a file that judge has written.
func readVerdicts(t *testing.T, file string) (all []verdict) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var v verdict
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		if v.Text, err = strconv.Unquote(v.Text); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// compare reads and writes a text as flatc has, and reports whether flatc has accepted it.
func (v *verdict) compare(t *testing.T, typ *fbjson.Type) (read bool) {
	t.Helper()
	buf, err := typ.AppendBuffer(nil, []byte(v.Text), nil)
	if v.Refused != (err != nil) {
		t.Errorf("%v; flatc refuses: %v: %.1000q", err, v.Refused, v.Text)
	}
	if v.Refused || err != nil {
		return !v.Refused
	}
	if err := typ.Verify(buf); err != nil {
		t.Errorf("%v: %.1000q", err, v.Text)
		return true
	}
	if got := mustWrite(t, typ, buf, &fbjson.WriteOptions{Flatc: true}); got != v.JSON {
		t.Errorf("%.1000q\ngives\n%.2000s\nand with flatc\n%.2000s", v.Text, got, v.JSON)
	}
	exact := mustWrite(t, typ, buf, nil)
	again := mustRead(t, typ, exact, nil)
	if got := mustWrite(t, typ, again, nil); got != exact {
		t.Errorf("%.1000s\nis read, and written as\n%.1000s", exact, got)
	}
	return true
}

// record makes cases and writes what flatc says of them.
func record(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 0))
	var texts []string
	for range *cases {
		g := textGen{rng: rng, faults: rng.IntN(3)}
		texts = append(texts, g.object("All", 0))
	}
	judge(t, "testdata/all.fbs", texts, verdicts)
}

// judge writes to a file what flatc says of texts.
func judge(t *testing.T, schema string, texts []string, file string) {
	var out bytes.Buffer
	dir := t.TempDir()
	in, made := filepath.Join(dir, "in.json"), filepath.Join(dir, "in.bin")
	for _, text := range texts {
		v := verdict{Text: strconv.Quote(text)}
		if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := exec.Command(*flatcPath, "-b", "-o", dir, schema, in).Run(); err != nil {
			v.Refused = true
		} else {
			if out, err := exec.Command(*flatcPath, "-t", "--raw-binary", "-o", dir, schema, "--",
				made).CombinedOutput(); err != nil {
				t.Logf("flatc -t: %v %.300s: %s", err, out, text)
				continue
			}
			text, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			v.JSON = string(text)
		}
		line, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A textGen makes texts for testdata/all.fbs, with about so many mistakes in each.
type textGen struct {
	rng    *rand.Rand
	faults int
	keys   int  // made so far
	plain  bool // no bare words
}

func pick(g *textGen, of ...string) string {
	for {
		s := of[g.rng.IntN(len(of))]
		if word := strings.TrimLeft(s, "+-"); !g.plain || !bareWord.MatchString(s) ||
			slices.Contains([]string{"true", "false", "null", "inf"}, word) {
			return s
		}
	}
}

// bareWord matches what flatc refuses where it has to skip a value before it reads it: in nested
// buffers, and in unions whose type comes behind. There fbjson reads the same as elsewhere.
var bareWord = regexp.MustCompile(`^[-+]?[A-Za-z]`)

// wrong reports whether the next value is to be a mistake.
func (g *textGen) wrong() bool {
	if g.faults > 0 && g.rng.IntN(12) == 0 {
		g.faults--
		return true
	}
	return false
}

// fieldsOf are the fields of a type and what their values are.
var fieldsOf = map[string][][2]string{
	"Leaf": {{"name", "string"}, {"n", "int"}}, "Other": {{"flag", "bool"}, {"x", "float"}},
	"Item":   {{"id", "name!"}, {"count", "short"}},
	"Ranked": {{"rank", "number!"}, {"label", "string"}},
	"All": {{"bo", "bool"}, {"by", "byte"}, {"ub", "ubyte"}, {"sh", "short"}, {"us", "ushort"},
		{"in", "int"}, {"ui", "uint"}, {"lo", "long"}, {"ul", "ulong"}, {"fl", "float"},
		{"db", "float"},
		{"ob", "bool?"}, {"oi", "int?"}, {"of", "float?"}, {"oe", "color?"}, {"color", "color"},
		{"access", "access"}, {"wide", "wide"}, {"neg", "neg"}, {"step", "step"},
		{"name", "string"},
		{"vec", "Vec"}, {"big", "Big"}, {"row", "Row"}, {"leaf", "Leaf"}, {"any", "any"},
		{"anys", "anys"}, {"bytes", "[ubyte"}, {"bools", "[bool"}, {"ints", "[int"},
		{"doubles", "[float"}, {"colors", "[color"}, {"flags", "[access"}, {"strings", "[string"},
		{"vecs", "[Vec"}, {"bigs", "[Big"}, {"entries", "[Entry"}, {"leaves", "[Leaf"},
		{"items", "[Item"}, {"ranked", "[Ranked"}, {"nested", "All"}, {"nleaf", "Leaf"},
		{"flex", "flex"}, {"h32", "hash"}, {"hu32", "hash"}, {"h64", "hash"}, {"hu64", "hash"},
		{"aligned", "[float"}, {"pooled", "string"}, {"old", "int"}, {"self", "All"}},
}

// structs are the fields of structs.
var structs = map[string][][2]string{
	"Vec": {{"x", "float"}, {"y", "float"}}, "Big": {{"d", "float"}, {"n", "byte"}},
	"Row":   {{"ids", "[3ushort"}, {"at", "[2Vec"}, {"color", "color"}},
	"Entry": {{"id", "number"}, {"weight", "float"}},
}

func (g *textGen) name(s string) string {
	names := []string{s, `"` + s + `"`, s, `'` + s + `'`}
	if g.wrong() {
		names = []string{s + "x", `"` + s, "9" + s, s + " " + s, "", `"\x"`}
	}
	return names[g.rng.IntN(len(names))]
}

func (g *textGen) space() string {
	return pick(g, "", "", "", " ", "\n", "/* c */", "// c\n", "\t ")
}

// join joins members or elements, and ends the list.
func (g *textGen) join(opening string, parts []string, closing string) string {
	comma := ","
	if g.wrong() {
		comma = pick(g, "", ";", ",,")
	}
	text := opening + g.space() + strings.Join(parts, g.space()+comma+g.space())
	if len(parts) > 0 && g.rng.IntN(6) == 0 {
		text += ","
	}
	if g.wrong() {
		closing = pick(g, "", "]", "}", ")")
	}
	return text + g.space() + closing
}

// object makes a table.
func (g *textGen) object(table string, depth int) string {
	fields := fieldsOf[table]
	var parts []string
	for i, n := 0, g.rng.IntN(5); i < n; i++ {
		f := fields[g.rng.IntN(len(fields))]
		if depth > 2 && (f[1] == "All" || strings.HasPrefix(f[1], "any")) {
			continue
		}
		switch f[1] {
		case "any", "anys":
			parts = append(parts, g.union(f[0], f[1], depth)...)
			continue
		}
		name, outer := g.name(f[0]), g.plain
		g.plain = outer || f[0] == "nested" || f[0] == "nleaf"
		parts = append(parts, name+g.space()+":"+g.space()+g.value(f[1], depth))
		g.plain = outer
	}
	for _, f := range fields {
		if kind, required := strings.CutSuffix(f[1], "!"); required && !g.wrong() {
			parts = append(parts, f[0]+":"+g.value(kind, depth))
		}
	}
	if !g.wrong() {
		parts = unique(parts)
	}
	return g.join("{", parts, "}")
}

// unique drops members of a name that is there.
func unique(parts []string) (out []string) {
	seen := make(map[string]bool)
	for _, p := range parts {
		name := strings.Trim(p[:strings.IndexAny(p+":", ": \n\t/")], `"'`)
		if !seen[name] {
			seen[name] = true
			out = append(out, p)
		}
	}
	return out
}

func (g *textGen) union(name, kind string, depth int) []string {
	member := func() (tag, value string) {
		i := g.rng.IntN(5)
		tag = []string{"Leaf", "Other", "L2", "V", "S"}[i]
		value = g.value([]string{"Leaf", "Other", "Leaf", "Vec", "string"}[i], depth+1)
		return pick(g, `"`+tag+`"`, tag, fmt.Sprint(i+1)), value
	}
	if g.wrong() {
		return []string{name + ":{}"}
	}
	if kind == "any" {
		behind, outer := g.rng.IntN(3) == 0, g.plain
		g.plain = outer || behind
		tag, value := member()
		g.plain = outer
		parts := []string{name + "_type:" + tag, name + ":" + value}
		if behind {
			parts[0], parts[1] = parts[1], parts[0]
		}
		return parts
	}
	var tags, values []string
	for range g.rng.IntN(4) {
		tag, value := member()
		tags, values = append(tags, tag), append(values, value)
	}
	return []string{name + "_type:" + g.join("[", tags, "]"), name + ":" + g.join("[", values, "]")}
}

func (g *textGen) value(kind string, depth int) string {
	if kind != "flex" && !strings.HasPrefix(kind, "bool") && g.wrong() {
		kinds := []string{"bool", "int", "string", "null", "float", "[int", "Leaf", "ulong",
			"color", "Vec", "junk"}
		kind = kinds[g.rng.IntN(len(kinds))]
	}
	if base, optional := strings.CutSuffix(kind, "?"); optional {
		if g.rng.IntN(3) == 0 {
			return "null"
		}
		kind = base
	}
	if elem, ok := strings.CutPrefix(kind, "["); ok {
		n := g.rng.IntN(4)
		if elem[0] == '2' || elem[0] == '3' {
			n = int(elem[0] - '0')
			elem = elem[1:]
		}
		var parts []string
		for range n {
			parts = append(parts, g.value(elem, depth+1))
		}
		return g.join("[", parts, "]")
	}
	if fields, ok := structs[kind]; ok {
		var parts []string
		positional := g.rng.IntN(4) == 0
		for _, f := range fields {
			v := g.value(f[1], depth+1)
			if !positional {
				v = g.name(f[0]) + ":" + v
			}
			parts = append(parts, v)
		}
		if positional {
			return g.join("[", parts, "]")
		}
		g.rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		return g.join("{", parts, "}")
	}
	if _, ok := fieldsOf[kind]; ok {
		return g.object(kind, depth+1)
	}
	switch kind {
	case "bool":
		return pick(g, "true", "false", `"true"`, "1", "0", `"0"`)
	case "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong":
		return g.integer(kind)
	case "float":
		return pick(g, "0", "1", "-2.5", "1e3", "0.1", ".5", "5.", "+5", "nan", "inf", "-inf",
			"+inf",
			`"nan"`, `"1.5"`, `"-inf"`, "0x1.8p1", "1e40", "-0.5", "1e-7", "3.14159265358979", "1E+2",
			"123456789.123", "16777217", "infinity", "-nan", "NaN", "1e-320", "deg(0)", "sin(0)",
			"cos( 0 )", "atan(\"0\")", "010", `" 7 "`, "0.000001")
	case "color":
		return pick(g, "Red", "Green", `"Blue"`, "10", "9", `"1"`, `"Red Green"`, "-1")
	case "access":
		return pick(g, "Read", `"Read Write"`, `"Run Read Write"`, "7", "8", `"Read Read"`, "0")
	case "wide":
		return pick(g, "Low", `"High Low"`, "9223372036854775808", "2", `"Mid"`)
	case "neg":
		return pick(g, "Minus", "Plus", "-5", `"None"`, "3")
	case "step":
		return pick(g, "One", "2", "5", `"Two"`, "0")
	case "hash":
		return pick(g, `"abc"`, `""`, "12", "abc", `"a\u0000b"`, `"12"`, `"ümlaut"`)
	case "string":
		return pick(g, `""`, `"abc"`, `'a"b'`, `"\n\t\r\b\f\\\/\""`, `"é\u00e9\u20AC"`, `"\uD83D\uDE00"`,
			`"\x41\xc3\xa9"`, `"😀"`, "\"\x7f\"", `"\u0000"`, `"\u001f"`, `'it\'s'`)
	case "flex":
		return g.flex(0)
	case "null":
		return "null"
	case "number", "name": // flatc's order of equal keys is any
		g.keys++
		key := fmt.Sprint((g.keys * 7919) % 1000)
		if kind == "name" {
			key = `"` + key + `"`
		}
		return key
	}
	return pick(g, "", "@", `"\q"`, `"\u12"`, `"\uD83D"`, `"\uDE00x"`, "tru", "--1", "1.2.3", "0x", "1e",
		"0x1.8", "\"\x01\"", "\"\xff\"", `"\xff"`, "/*", "sin(1", "foo(1)", "- 1", "{", "a.b", "+", `"`)
}

func (g *textGen) integer(kind string) string {
	if g.rng.IntN(10) == 0 {
		return pick(g, "-129", "-128", "127", "128", "255", "256", "-32769", "65536", "2147483648",
			"-2147483649", "4294967296", "9223372036854775808", "-9223372036854775808",
			"18446744073709551615", "18446744073709551616", "1.5", "1e2", "true", `"Color.Red"`,
			`"a.b.Color"`, "Red", "-0", `"12x"`, `""`, `" "`, "99999999999999999999999")
	}
	if kind[0] == 'u' {
		return pick(g, "0", "1", "7", "0x1F", "010", "+5", `"12"`, "200", `"0x10"`, "-0")
	}
	return pick(g, "0", "1", "-7", "0x1F", "-0x10", "010", "+5", `"12"`, "100", `"-0x10"`, `" 5"`, `"5 "`)
}

func (g *textGen) flex(depth int) string {
	n := g.rng.IntN(10)
	if depth > 3 {
		n = g.rng.IntN(7)
	}
	switch n {
	case 0, 1:
		return pick(g, "0", "-1", "300", "-70000", "5000000000", "-9223372036854775808",
			"9223372036854775807")
	case 2:
		return pick(g, "1.5", "0.1", "1e300", "-0.0", "2.0", "nan", "inf", "-inf")
	case 3:
		return pick(g, "true", "false", "null")
	case 4, 5:
		return g.value("string", depth)
	case 6:
		return `"` + strings.Repeat("x", g.rng.IntN(700)) + `"`
	}
	var parts []string
	if n == 7 {
		for i := range g.rng.IntN(5) {
			parts = append(parts, fmt.Sprintf(`"%s%d": `, []string{"k", "_a", "B c"}[g.rng.IntN(3)], i)+
				g.flex(depth+1))
		}
		return g.join("{", parts, "}")
	}
	for range g.rng.IntN(6) {
		parts = append(parts, g.flex(depth+1))
	}
	return g.join("[", parts, "]")
}
