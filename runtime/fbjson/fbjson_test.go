package fbjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/fb"
	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

func all(t testing.TB) *fbjson.Type {
	t.Helper()
	return loadFile(t, "testdata/all.fbs").Root()
}

// TestErrors reads texts with one mistake each.
func TestErrors(t *testing.T) {
	s := loadFile(t, "testdata/all.fbs")
	strict, err := s.Table("a.b.Strict")
	if err != nil {
		t.Fatal(err)
	}
	root := s.Root()
	for _, c := range []struct {
		typ        *fbjson.Type
		text, want string
	}{
		{root, "", `1:1: the end of the text instead of the { of an object`},
		{root, "{} {}", `1:4: '{' behind the end of the value`},
		{root, "{\n  leaf: {nmae: \"x\"}}", `2:10: leaf: the table a.b.Leaf has no field "nmae"; did you mean name?`},
		{root, `{ub: 256}`, `1:6: ub: 256 is out of the range of ubyte`},
		{root, `{ints: [1, 2, "x"]}`, `1:15: ints[2]: "x" for int is neither a number nor a value of an enum, such as "Enum.Value"`},
		{root, `{color: Grene}`, `1:9: color: enum a.b.Color has no value "Grene"; did you mean Green?`},
		{root, `{in: null}`, `1:6: in: null for int, which is not optional`},
		{root, `{in: 1, in: 2}`, `1:13: field in is set twice`},
		{root, `{vec: {x: 1}}`, `1:7: vec: field y of struct a.b.Vec is missing`},
		{root, `{row: [[1], [], 0]}`, `1:8: row.ids: 1 elements for an array of 3`},
		{root, `{any: {}}`, `1:7: field any wants its type, as field any_type`},
		{root, `{any: {}, name: "", any_type: Leaf}`, `1:31: field any_type must come before field any`},
		{root, `{any_type: Leaf}`, `1:12: field any_type has no value, in field any`},
		{root, `{any_type: NONE, any: {}}`, `1:23: field any has a value, and field any_type is NONE`},
		{root, `{anys_type: [Leaf], anys: []}`, `1:27: anys: 0 values for 1 types in field anys_type`},
		{root, `{nested: [1, 2]}`, `1:10: nested: a list for a nested buffer, which wants an object`},
		{root, `{nested: {in: 1.5}}`, `1:15: nested.in: 1.5 for int`},
		{root, `{flex: {a: 1, a: 2}}`, `1:15: flex: key "a" is there twice`},
		{root, `{name: "a` + "\n" + `"}`, `1:10: '\n' in a string; write it as an escape`},
		{root, `{name: "\ud800"}`, `1:9: half of a surrogate pair`},
		{root, `{fl: log(2)}`, `1:6: fl: there is no function log`},
		{root, `{fl: 0x10}`, `1:6: fl: 0x10 has no exponent, which a hexadecimal number has as float`},
		{strict, `{leaf: {}}`, `1:1: the required field name of a.b.Strict is missing`},
	} {
		_, err := c.typ.AppendBuffer(nil, []byte(c.text), nil)
		var e *fbjson.Error
		if !errors.As(err, &e) || err.Error() != c.want {
			t.Errorf("%s: got\n%v, want\n%s", c.text, err, c.want)
		}
	}
}

// TestRefusedAlthoughFlatcAccepts reads what flatc makes buffers of that its verifier refuses.
func TestRefusedAlthoughFlatcAccepts(t *testing.T) {
	for _, text := range []string{`{any_type: Leaf}`, `{anys_type: [Leaf], anys: []}`,
		`{anys_type: [Leaf, Leaf], anys: [{}]}`} {
		if _, err := all(t).AppendBuffer(nil, []byte(text), nil); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

// TestOptionsOfReading reads each text with an option and without.
func TestOptionsOfReading(t *testing.T) {
	typ := all(t)
	for _, c := range []struct {
		o             fbjson.ReadOptions
		text          string
		without, with bool // accepted
	}{
		{fbjson.ReadOptions{Strict: true}, `{in: 1}`, true, false},
		{fbjson.ReadOptions{Strict: true}, `{"in": 1,}`, true, false},
		{fbjson.ReadOptions{Strict: true}, `{"ints": [1,]}`, true, false},
		{fbjson.ReadOptions{AllowUnknown: true}, `{what: {a: [1]}, in: 1}`, false, true},
		{fbjson.ReadOptions{AllowUnknown: true},
			"{what: " + strings.Repeat("[", 62) + "1" + strings.Repeat("]", 62) + "}", false, true},
		{fbjson.ReadOptions{AllowUnknown: true},
			"{what: " + strings.Repeat("[", 63) + "1" + strings.Repeat("]", 63) + "}",
			false, false},
		{fbjson.ReadOptions{AllowUnknown: true},
			"{what: " + strings.Repeat("[{a:0,b:", 31) + "1" + strings.Repeat("}]", 31) + "}",
			false, true},
		{fbjson.ReadOptions{AllowUnknown: true},
			"{what: " + strings.Repeat("[{a:0,b:", 32) + "1" + strings.Repeat("}]", 32) + "}",
			false, false},
		{fbjson.ReadOptions{AllowUnknown: true},
			strings.Repeat("{self:", 62) + "{x: {}}" + strings.Repeat("}", 62), false, true},
		{fbjson.ReadOptions{AllowUnknown: true},
			strings.Repeat("{self:", 63) + "{x: {}}" + strings.Repeat("}", 63), false, false},
		{fbjson.ReadOptions{NestedBytes: true}, `{nleaf: [8,0,0,0,4,0,4,0,4,0,0,0]}`, false, true},
		{fbjson.ReadOptions{NestedBytes: true}, `{nleaf: [9,0,0,0,4,0,4,0,4,0,0,0]}`, false, false},
	} {
		if _, err := typ.AppendBuffer(nil, []byte(c.text), nil); (err == nil) != c.without {
			t.Errorf("%s without options: %v", c.text, err)
		}
		if _, err := typ.AppendBuffer(nil, []byte(c.text), &c.o); (err == nil) != c.with {
			t.Errorf("%s with %+v: %v", c.text, c.o, err)
		}
	}
	text := `{"in":-3}`
	if got := mustWrite(t, typ, mustRead(t, typ, text, nil), nil); got != "{}" {
		t.Errorf("a default is written: %s", got)
	}
	forced := &fbjson.ReadOptions{ForceDefaults: true}
	if got := mustWrite(t, typ, mustRead(t, typ, text, forced), nil); got != text {
		t.Errorf("a default is not written: %s", got)
	}
}

// TestExact writes numbers with all digits, and valid JSON even of numbers that it has not.
func TestExact(t *testing.T) {
	typ := all(t)
	text := `{"fl":0.1,"db":5e-324,"any_type":"V","any":{"x":"nan","y":"-inf"},` +
		`"doubles":[1e-07,0.30000000000000004,"inf",-0,1.7976931348623157e+308]}`
	buf := mustRead(t, typ, text, nil)
	if got := mustWrite(t, typ, buf, nil); got != text {
		t.Errorf("got\n%s\nwant\n%s", got, text)
	}
	if !json.Valid([]byte(text)) {
		t.Error("that is no JSON")
	}
	indented := mustWrite(t, typ, buf, &fbjson.WriteOptions{Indent: 3, Defaults: true})
	for _, line := range []string{"\n   \"fl\": 0.1,", "\n   \"ub\": 200", "\n   \"oi\": null"} {
		if !strings.Contains(indented, line) {
			t.Errorf("%q is not in\n%s", line, indented)
		}
	}
	if !json.Valid([]byte(indented)) {
		t.Errorf("that is no JSON:\n%s", indented)
	}
}

// TestStringsThatAreNotUTF8 writes one, which no text stands for.
func TestStringsThatAreNotUTF8(t *testing.T) {
	typ := all(t)
	buf := mustRead(t, typ, `{leaf: {name: "a!b"}}`, nil)
	buf[bytes.IndexByte(buf, '!')] = 0xff
	_, err := typ.AppendJSON(nil, buf, nil)
	var e *fb.VerifyError
	if !errors.As(err, &e) || e.Path != "All.leaf.name" {
		t.Errorf("error %v", err)
	}
	got := mustWrite(t, typ, buf, &fbjson.WriteOptions{ReplaceInvalid: true})
	if got != "{\"leaf\":{\"name\":\"a\ufffdb\"}}" {
		t.Errorf("got %s", got)
	}
}

// TestBufferIsVerified writes texts of buffers with each byte damaged in turn.
func TestBufferIsVerified(t *testing.T) {
	typ := all(t)
	buf := mustRead(t, typ, `{leaf: {name: "abc", n: 3}, any_type: S, any: "x", row: [[1,2,3],[[1,2],[3,4]],Red],
		flex: {a: [1, 2.5, "x"], b: {c: null}}, nested: {in: 1, strings: ["a", "b"]}, oi: 4}`, nil)
	refused := 0
	for i := range buf {
		for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			damaged := bytes.Clone(buf)
			damaged[i] = b
			text, err := typ.AppendJSON(nil, damaged, nil)
			if err != nil {
				refused++
				if len(text) != 0 {
					t.Fatalf("text and error: %v", err)
				}
			}
		}
	}
	if refused < 100 {
		t.Errorf("%d buffers were refused", refused)
	}
}

// TestCyclesOfFlexBuffers writes a FlexBuffer whose elements are the vector that they are in,
// which would unfold to 8 to the power of 64 elements.
func TestCyclesOfFlexBuffers(t *testing.T) {
	typ := all(t)
	flex := []byte{8}
	for i := range byte(8) {
		flex = append(flex, i)
	}
	for range 8 {
		flex = append(flex, 10<<2) // vectors
	}
	flex = append(flex, 16, 10<<2, 1)
	buf := mustRead(t, typ, `{flex: "`+strings.Repeat("x", 255)+`"}`, nil)
	at := bytes.Index(buf, []byte("xxx")) - 1
	n := copy(buf[at:], flex)
	// The vector of bytes now ends behind them.
	buf[at-4], buf[at-3] = byte(n), 0
	_, err := typ.AppendJSON(nil, buf, &fbjson.WriteOptions{MaxBytes: 1 << 20})
	if err == nil {
		t.Error("a text was written")
	}
}

// TestLimits reads and writes what is too deep, or too long.
func TestLimits(t *testing.T) {
	typ := all(t)
	for _, c := range []struct{ depth, want int }{{63, 1}, {64, 0}, {100_000, 0}} {
		text := strings.Repeat("{self:", c.depth) + "{}" + strings.Repeat("}", c.depth)
		if _, err := typ.AppendBuffer(nil, []byte(text), nil); (err == nil) != (c.want == 1) {
			t.Errorf("%d levels: %v", c.depth, err)
		}
		flex := "{flex:" + strings.Repeat("[", c.depth) + strings.Repeat("]", c.depth) + "}"
		if _, err := typ.AppendBuffer(nil, []byte(flex), nil); (err == nil) != (c.want == 1) {
			t.Errorf("%d levels of a FlexBuffer: %v", c.depth, err)
		}
	}
	buf := mustRead(t, typ, `{name: "`+strings.Repeat("x", 1000)+`"}`, nil)
	if _, err := typ.AppendJSON(nil, buf, &fbjson.WriteOptions{MaxBytes: 1000}); err == nil {
		t.Error("a text of more than 1000 bytes was written")
	}
	many := `{strings: [` + strings.Repeat(`"",`, 100) + `]}`
	if _, err := typ.AppendJSON(nil, mustRead(t, typ, many, nil), &fbjson.WriteOptions{
		Limits: fb.Limits{Bytes: 10}}); err == nil {
		t.Error("a buffer beyond the limits was written")
	}
}

// TestAppends writes behind what is there, and leaves it alone after an error.
func TestAppends(t *testing.T) {
	typ := all(t)
	buf, err := typ.AppendBuffer([]byte("12345"), []byte(`{in: 5, bigs: [{d: 1, n: 1}]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := typ.AppendJSON([]byte("text: "), buf[5:], nil)
	if err != nil || string(text) != `text: {"in":5,"bigs":[{"d":1,"n":1}]}` {
		t.Errorf("%s, %v", text, err)
	}
	if out, err := typ.AppendBuffer([]byte("12345"), []byte("{in: x}"), nil); err == nil ||
		string(out) != "12345" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := typ.AppendJSON([]byte("text"), buf[5:20], nil); err == nil ||
		string(out) != "text" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestLoad loads what is no binary schema, and looks for tables.
func TestLoad(t *testing.T) {
	if _, err := fbjson.Load([]byte("no schema at all")); err == nil {
		t.Error("loaded")
	}
	s := loadFile(t, "testdata/all.fbs")
	_, err := s.Table("a.b.Laef")
	if err == nil || !strings.Contains(err.Error(), "did you mean a.b.Leaf?") {
		t.Errorf("error %v", err)
	}
	leaf, err := s.Table("a.b.Leaf")
	if err != nil || leaf.Name() != "a.b.Leaf" || leaf.Identifier() != "" {
		t.Errorf("%v, %v", leaf, err)
	}
	if s.Root().Identifier() != "ALLS" {
		t.Errorf("identifier %q", s.Root().Identifier())
	}
	// flatc's own binary schema, without built-in attributes, serves as well.
	data, err := os.ReadFile(filepath.Join(flatbuffersModule(t), "tests", "monster_test.bfbs"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err = fbjson.Load(data); err != nil || s.Root().Name() != "MyGame.Example.Monster" {
		t.Errorf("%v, %v", s, err)
	}
}

// TestKeysAreSorted reads vectors of tables and structs that have a key.
func TestKeysAreSorted(t *testing.T) {
	typ := all(t)
	text := `{entries: [[3,0],[1,1],[2,2]], items: [{id:"b"},{id:""},{id:"ab"}], ranked: [{rank:5},{},{rank:2}]}`
	want := `{"entries":[{"id":1,"weight":1},{"id":2,"weight":2},{"id":3,"weight":0}],` +
		`"items":[{"id":""},{"id":"ab"},{"id":"b"}],"ranked":[{"rank":0},{"rank":2},{"rank":5}]}`
	if got := mustWrite(t, typ, mustRead(t, typ, text, nil), nil); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMemberOfALaterVersion writes a union whose member the schema does not know.
func TestMemberOfALaterVersion(t *testing.T) {
	newer := load(t, `table A { n: int; } table B { s: string; } union U { A, B } table R { u: U; n: int; } root_type R;`)
	older := load(t, `table A { n: int; } union U { A } table R { u: U; n: int; } root_type R;`)
	buf := mustRead(t, newer.Root(), `{u_type: B, u: {s: "x"}, n: 3}`, nil)
	if got := mustWrite(t, older.Root(), buf, nil); got != `{"u_type":2,"u":null,"n":3}` {
		t.Errorf("got %s", got)
	}
}

// FuzzText reads any text. What is read is a valid buffer, and its text is read again.
func FuzzText(f *testing.F) {
	typ := all(f)
	for _, text := range []string{`{}`, `{in: 5, leaf: {name: "a"}, flex: [1, 2.5, {a: null}]}`,
		`{any_type: V, any: [1, nan], nested: {bigs: [{d: 1, n: 2}]}}`,
		`{anys_type: [S], anys: ["\ud83d\ude00"], wide: "Low High", h32: "x"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		buf, err := typ.AppendBuffer(nil, text, nil)
		if err != nil {
			return
		}
		exact := mustWrite(t, typ, buf, nil)
		if got := mustWrite(t, typ, mustRead(t, typ, exact, nil), nil); got != exact {
			t.Errorf("%s\nis read, and written as\n%s", exact, got)
		}
	})
}

// FuzzBuffer writes the text of any buffer. What is written is read again.
func FuzzBuffer(f *testing.F) {
	typ := all(f)
	for _, text := range []string{`{}`, `{in: 5, leaf: {name: "a"}, flex: [1, 2.5, {a: null}]}`,
		`{any_type: V, any: [1, nan], nested: {bigs: [{d: 1, n: 2}]}}`,
		`{anys_type: [S], anys: ["x"], wide: "Low High", items: [{id: "x"}]}`} {
		f.Add(mustRead(f, typ, text, nil))
	}
	f.Fuzz(func(t *testing.T, buf []byte) {
		text, err := typ.AppendJSON(nil, buf, &fbjson.WriteOptions{MaxBytes: 1 << 20,
			ReplaceInvalid: true})
		if err != nil {
			return
		}
		if _, err := typ.AppendBuffer(nil, text, nil); err != nil && !readable(err) {
			t.Errorf("%v: %s", err, text)
		}
	})
}

// FuzzFlexBuffer writes the text of any bytes as a FlexBuffer.
func FuzzFlexBuffer(f *testing.F) {
	plain := load(f, `table T { x: [ubyte]; } root_type T;`).Root()
	typ := load(f, `table T { x: [ubyte] (flexbuffer); } root_type T;`).Root()
	bytesOf := func(t testing.TB, flex []byte) []byte {
		list := strings.ReplaceAll(fmt.Sprint(flex), " ", ",")
		return mustRead(t, plain, `{x:`+list+`}`, nil)
	}
	for _, text := range []string{`1`, `{a: [1, 2.5, "x"], b: {c: null}}`, `[true, 70000, -1]`} {
		// The bytes are the last thing in the buffer, behind their number.
		buf := mustRead(f, typ, `{x:`+text+`}`, nil)
		for n := range len(buf) - 4 {
			if at := len(buf) - n; at%4 == 0 && int(buf[at-4]) == n && n > 2 {
				f.Add(buf[at:])
			}
		}
	}
	f.Fuzz(func(t *testing.T, flex []byte) {
		text, err := typ.AppendJSON(nil, bytesOf(t, flex), &fbjson.WriteOptions{MaxBytes: 1 << 20,
			ReplaceInvalid: true})
		if err != nil {
			return
		}
		if _, err := typ.AppendBuffer(nil, text, nil); err != nil && !readable(err) {
			t.Errorf("%v: %s", err, text)
		}
	})
}

// readable reports whether a text of a valid buffer may be refused with the error: the buffer
// has what no builder writes.
func readable(err error) bool {
	for _, reason := range []string{"and field", "wants its type", "has no value", "values for",
		"whose type is", "is there twice", "zero byte", "too deep"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}

// leavesOf is a text of about n bytes.
func leavesOf(n int) []byte {
	const leaf = `{"name":"a name of some length","n":123456}`
	return []byte(`{"leaves":[` + strings.Repeat(leaf+",", n/len(leaf)) + leaf + `]}`)
}

// TestLinear reads and writes texts of 1 and 16 MiB, and counts the bytes that are allocated: the
// longer one takes 16 times as many, and not more.
func TestLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a second")
	}
	typ := all(t)
	taken := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	measure := func(n int) (read, write uint64) {
		text := leavesOf(n)
		var buf, again []byte
		read = taken(func() { buf = mustRead(t, typ, string(text), nil) })
		write = taken(func() { again = []byte(mustWrite(t, typ, buf, nil)) })
		if !bytes.Equal(again, text) {
			t.Error("the text does not come back")
		}
		return read, write
	}
	read, write := measure(1 << 20)
	moreRead, moreWrite := measure(16 << 20)
	// A slice that grows has up to twice the room, so the ratio is not exact.
	if moreRead > 16*read*3/2 || moreWrite > 16*write*3/2 || read > 64<<20 || write > 16<<20 {
		t.Errorf("reading allocates %d bytes of 1 MiB, and %d of 16; writing %d and %d", read,
			moreRead, write, moreWrite)
	}
}

// BenchmarkLinear shows a rate that does not depend on the length.
func BenchmarkLinear(b *testing.B) {
	typ := all(b)
	for _, mebibytes := range []int{1, 16} {
		text := leavesOf(mebibytes << 20)
		buf := mustRead(b, typ, string(text), nil)
		b.Run(fmt.Sprintf("read/%dMiB", mebibytes), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := typ.AppendBuffer(nil, text, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("write/%dMiB", mebibytes), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := typ.AppendJSON(nil, buf, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestStruct converts a struct that is a message by itself, as those of topics are.
func TestStruct(t *testing.T) {
	s := loadFile(t, "testdata/all.fbs")
	row, err := s.Struct("a.b.Row")
	if err != nil {
		t.Fatal(err)
	}
	const text = `{"ids":[1,2,3],"at":[{"x":1,"y":2},{"x":0.5,"y":-1}],"color":"Green"}`
	buf, err := row.AppendBuffer([]byte("12345"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	buf = buf[5:]
	back, err := row.AppendJSON(nil, buf, nil)
	if err != nil || string(back) != text || row.Verify(buf) != nil {
		t.Errorf("%s, %v, %v", back, err, row.Verify(buf))
	}
	var refused *fb.VerifyError
	for _, n := range []int{0, len(buf) - 1, len(buf) + 1} {
		if err := row.Verify(make([]byte, n)); !errors.As(err, &refused) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	_, err = row.AppendBuffer(nil, []byte(`{"ids": [1, 2, 3], "color": 0}`), nil)
	if err == nil || err.Error() != `1:1: field at of struct a.b.Row is missing` {
		t.Error(err)
	}
	if _, err := s.Struct("a.b.Rwo"); err == nil ||
		!strings.Contains(err.Error(), `no struct "a.b.Rwo"; did you mean a.b.Row?`) {
		t.Error(err)
	}
}
