package fbjson

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// This file is FlexBuffers, the form of data without a schema: the layout of
// https://flatbuffers.dev/internals, section FlexBuffers.

// A flexType is the type of a value, as its packed byte has it above the width.
type flexType uint8

const (
	flexNull flexType = iota
	flexInt
	flexUint
	flexFloat
	flexKey
	flexString
	flexIndirectInt
	flexIndirectUint
	flexIndirectFloat
	flexMap
	flexVector
	flexVectorInt // typed vectors: the elements have no types of their own
	flexVectorUint
	flexVectorFloat
	flexVectorKey
	flexVectorString          // of an early version; its elements end with a zero as keys do
	flexVectorInt2            // 16 to 24: of 2, 3 and 4 numbers, without a length
	flexBlob         flexType = 25
	flexBool         flexType = 26
	flexVectorBool   flexType = 36
)

// isInline reports whether a value lies where its place is, and not where an offset leads to.
func (t flexType) isInline() bool { return t <= flexFloat || t == flexBool }

// A flexValue is a value that is ready to be put into a vector: what it refers to has been
// written.
type flexValue struct {
	typ flexType
	// bits is the number, or the position of what an offset leads to.
	bits uint64
	// width is the base 2 logarithm of the least width in bytes that the value, or what it
	// refers to, has.
	width int
}

// A flexWriter writes a FlexBuffer at the end of a buffer.
type flexWriter struct {
	*reader
	start int
}

// flex writes the FlexBuffer that a node stands for, as the vector of its bytes.
func (r *reader) flex(n int) (at int, err error) {
	// The widest number has 8 bytes.
	at = r.buffer.vector(0, 1, 8)
	w := flexWriter{r, len(r.b)}
	root, err := w.value(n)
	if err != nil {
		return 0, err
	}
	width := w.widthOf(root, 0)
	w.align(width)
	w.put(root, width)
	r.b = append(r.b, root.packed(width), 1<<width)
	binary.LittleEndian.PutUint32(r.b[at:], uint32(len(r.b)-w.start))
	return at, r.checkSize(n)
}

// value writes what a value refers to, and returns the value. A value counts as a level of its own.
func (w *flexWriter) value(n int) (v flexValue, err error) {
	if w.depth++; w.depth > maxDepth {
		return v, w.faultf(n, "values nest too deep")
	}
	defer func() { w.depth-- }()
	switch w.nodes[n].kind {
	case isObject:
		return w.object(n)
	case isArray:
		return w.array(n)
	case isString:
		s := w.word(n)
		v := flexValue{typ: flexString, width: unsignedWidth(uint64(len(s)))}
		w.align(v.width)
		w.put(flexValue{typ: flexUint, bits: uint64(len(s))}, v.width)
		v.bits = uint64(len(w.b))
		w.b = append(append(w.b, s...), 0)
		return v, w.checkSize(n)
	case isInt:
		return w.number(n)
	case isFloat:
		return w.float(n)
	case isWord:
		switch w.source(n) {
		case "true":
			return flexValue{typ: flexBool, bits: 1}, nil
		case "false":
			return flexValue{typ: flexBool}, nil
		case "null":
			return flexValue{typ: flexNull}, nil
		}
		return w.float(n)
	}
	return v, w.faultf(n, "%s in a FlexBuffer", w.shape(n))
}

func (w *flexWriter) number(n int) (flexValue, error) {
	text := w.source(n)
	if v, err := parseInt(text, schema.Long); err == nil {
		i := int64(v)
		width := unsignedWidth(uint64(i)<<1 ^ uint64(i>>63))
		return flexValue{typ: flexInt, bits: v, width: width}, nil
	}
	v, err := parseInt(text, schema.ULong)
	if err != nil {
		return flexValue{}, w.faultf(n, "%v", err)
	}
	return flexValue{typ: flexUint, bits: v, width: unsignedWidth(v)}, nil
}

func (w *flexWriter) float(n int) (flexValue, error) {
	f, err := parseFloat(w.source(n), schema.Double)
	if err != nil {
		return flexValue{}, w.faultf(n, "%v", err)
	}
	v := flexValue{typ: flexFloat, bits: math.Float64bits(f), width: 3}
	if float64(float32(f)) == f || math.IsNaN(f) {
		v.width = 2
	}
	return v, nil
}

// array writes a vector.
func (w *flexWriter) array(n int) (flexValue, error) {
	var values []flexValue
	for i := n + 1; i < int(w.nodes[n].next); i = w.after(i) {
		w.path = append(w.path, step{index: len(values)})
		v, err := w.value(i)
		if err != nil {
			return v, err
		}
		w.path = w.path[:len(w.path)-1]
		values = append(values, v)
	}
	width := max(unsignedWidth(uint64(len(values))), w.widest(values, 1))
	return w.vector(flexVector, values, width, nil, n)
}

// object writes a map, whose keys are sorted.
func (w *flexWriter) object(n int) (flexValue, error) {
	type pair struct {
		key       string
		keyNode   int
		valueNode int
		at        uint64
	}
	var pairs []pair
	for i := n + 1; i < int(w.nodes[n].next); i = w.after(i + 1) {
		pairs = append(pairs, pair{key: w.word(i), keyNode: i, valueNode: i + 1})
	}
	slices.SortStableFunc(pairs, func(a, b pair) int {
		return bytes.Compare([]byte(a.key), []byte(b.key))
	})
	for i := range pairs {
		p := &pairs[i]
		if i > 0 && p.key == pairs[i-1].key {
			return flexValue{}, w.faultf(p.keyNode, "key %q is there twice", p.key)
		}
		if slices.Contains([]byte(p.key), 0) {
			return flexValue{}, w.faultf(p.keyNode, "a zero byte in the key of a FlexBuffer")
		}
		p.at = uint64(len(w.b))
		w.b = append(append(w.b, p.key...), 0)
	}
	values := make([]flexValue, len(pairs))
	for i, p := range pairs {
		w.path = append(w.path, step{name: p.key})
		v, err := w.value(p.valueNode)
		if err != nil {
			return v, err
		}
		w.path = w.path[:len(w.path)-1]
		values[i] = v
	}
	keys := make([]flexValue, len(pairs))
	for i, p := range pairs {
		keys[i] = flexValue{typ: flexKey, bits: p.at}
	}
	least := unsignedWidth(uint64(len(pairs)))
	keyVector, err := w.vector(flexVectorKey, keys, max(least, w.widest(keys, 1)), nil, n)
	if err != nil {
		return keyVector, err
	}
	// The offset to the keys, their width and the length come before the values.
	width := max(least, w.widthOf(keyVector, 0), w.widest(values, 3))
	return w.vector(flexMap, values, width, &keyVector, n)
}

// vector writes a vector of values, each as wide as told.
func (w *flexWriter) vector(typ flexType, values []flexValue, width int, keys *flexValue, n int) (
	flexValue, error) {
	w.align(width)
	if keys != nil {
		w.put(*keys, width)
		w.put(flexValue{typ: flexUint, bits: 1 << keys.width}, width)
	}
	w.put(flexValue{typ: flexUint, bits: uint64(len(values))}, width)
	v := flexValue{typ: typ, bits: uint64(len(w.b)), width: width}
	for _, v := range values {
		w.put(v, width)
	}
	if typ != flexVectorKey {
		for _, v := range values {
			w.b = append(w.b, v.packed(width))
		}
	}
	return v, w.checkSize(n)
}

// align appends zeros until the next value of the width is aligned.
func (w *flexWriter) align(width int) {
	for (len(w.b)-w.start)&(1<<width-1) != 0 {
		w.b = append(w.b, 0)
	}
}

// put writes a value into its place.
func (w *flexWriter) put(v flexValue, width int) {
	switch {
	case !v.typ.isInline():
		v.bits = uint64(len(w.b)) - v.bits
	case v.typ == flexFloat && width == 2:
		v.bits = uint64(math.Float32bits(float32(math.Float64frombits(v.bits))))
	}
	for range 1 << width {
		w.b = append(w.b, byte(v.bits))
		v.bits >>= 8
	}
}

// packed returns the byte that says what a value in a place of the given width is.
func (v flexValue) packed(width int) byte {
	if v.typ.isInline() {
		return byte(v.typ)<<2 | byte(max(v.width, width))
	}
	return byte(v.typ)<<2 | byte(v.width)
}

// widest returns the width that a vector of the values needs, of which place places come before
// the first of them.
func (w *flexWriter) widest(values []flexValue, place int) (width int) {
	for i, v := range values {
		width = max(width, w.widthOf(v, place+i))
	}
	return width
}

// widthOf returns the width that a value needs in the given place of what is written next.
func (w *flexWriter) widthOf(v flexValue, place int) int {
	if v.typ.isInline() {
		return v.width
	}
	end := len(w.b) - w.start
	for width := range 4 {
		at := end + -end&(1<<width-1) + place<<width
		if unsignedWidth(uint64(at+w.start)-v.bits) <= width {
			return width
		}
	}
	return 3
}

// unsignedWidth returns the base 2 logarithm of the number of bytes of a number.
func unsignedWidth(v uint64) int {
	switch n := bits.Len64(v); {
	case n <= 8:
		return 0
	case n <= 16:
		return 1
	case n <= 32:
		return 2
	}
	return 3
}

// errFlex is why a FlexBuffer cannot be read.
var errFlex = errors.New("the FlexBuffer refers outside of itself, or nests too deep")

// A flexRef is a value in a FlexBuffer: its type, where it is or its offset, the width of that
// place, and the width of what the offset leads to.
type flexRef struct {
	buf    []byte
	typ    flexType
	at     int
	parent int // bytes
	width  int // bytes
	depth  int
}

// flexRoot returns the root of a FlexBuffer.
func flexRoot(buf []byte) (flexRef, error) {
	if len(buf) < 3 {
		return flexRef{}, errFlex
	}
	parent := int(buf[len(buf)-1])
	at := len(buf) - 2 - parent
	if parent > 8 || bits.OnesCount(uint(parent)) != 1 || at < 0 {
		return flexRef{}, errFlex
	}
	return newFlexRef(buf, at, parent, buf[len(buf)-2], 0), nil
}

func newFlexRef(buf []byte, at, parent int, packed byte, depth int) flexRef {
	return flexRef{buf, flexType(packed >> 2), at, parent, 1 << (packed & 3), depth}
}

// number reads a number of so many bytes.
func (r flexRef) number(at, width int) (uint64, error) {
	if at < 0 || at > len(r.buf)-width {
		return 0, errFlex
	}
	return bitsAt(r.buf, at, width), nil
}

// target follows the offset in the value's place.
func (r flexRef) target() (int, error) {
	offset, err := r.number(r.at, r.parent)
	if err != nil || offset > uint64(r.at) {
		return 0, errFlex
	}
	return r.at - int(offset), nil
}

// float reads a float of so many bytes.
func (r flexRef) float(at, width int) (float64, error) {
	v, err := r.number(at, width)
	switch {
	case err != nil:
		return 0, err
	case width == 4:
		return float64(math.Float32frombits(uint32(v))), nil
	case width == 8:
		return math.Float64frombits(v), nil
	}
	return 0, fmt.Errorf("a FlexBuffer's float of %d bytes", width)
}

// bytes returns what the offset leads to, when its length is stored before it.
func (r flexRef) bytes() ([]byte, error) {
	at, err := r.target()
	if err != nil {
		return nil, err
	}
	n, err := r.number(at-r.width, r.width)
	if err != nil || n > uint64(len(r.buf)-at) {
		return nil, errFlex
	}
	return r.buf[at:][:n], nil
}

// key returns what the offset leads to, up to a zero byte.
func (r flexRef) key() ([]byte, error) {
	at, err := r.target()
	if err != nil {
		return nil, err
	}
	n := bytes.IndexByte(r.buf[at:], 0)
	if n < 0 {
		return nil, errFlex
	}
	return r.buf[at:][:n], nil
}

// A flexElements is the elements of a vector or map.
type flexElements struct {
	flexRef
	first, n int
	typ      flexType // of each; flexVector when each has its own
}

// elements returns the elements of a vector, or the values of a map.
func (r flexRef) elements() (flexElements, error) {
	e := flexElements{flexRef: r, typ: flexVector}
	if r.depth >= maxDepth {
		return e, errFlex
	}
	at, err := r.target()
	if err != nil {
		return e, err
	}
	e.first = at
	switch t := r.typ; {
	case t >= flexVectorInt2 && t < flexBlob:
		e.n = 2 + int(t-flexVectorInt2)/3
		e.typ = flexInt + (t-flexVectorInt2)%3
		return e, r.check(at, e.n, r.width)
	case t >= flexVectorInt && t <= flexVectorKey:
		e.typ = flexInt + t - flexVectorInt
	case t == flexVectorString:
		e.typ = flexKey
	case t == flexVectorBool:
		e.typ = flexBool
	}
	n, err := r.number(at-r.width, r.width)
	if err != nil || n > uint64(len(r.buf)) {
		return e, errFlex
	}
	e.n = int(n)
	size := r.width
	if e.typ == flexVector {
		size++ // the type
	}
	return e, r.check(at, e.n, size)
}

func (r flexRef) check(at, n, size int) error {
	if at < 0 || n*size > len(r.buf)-at {
		return errFlex
	}
	return nil
}

// at returns an element.
func (e flexElements) at(i int) flexRef {
	packed := byte(e.typ) << 2
	if e.typ == flexVector {
		packed = e.buf[e.first+e.n*e.width+i]
	}
	return newFlexRef(e.buf, e.first+i*e.width, e.width, packed, e.depth+1)
}

// keys returns the keys of a map whose values are e.
func (e flexElements) keys() (flexElements, error) {
	place := e.first - 3*e.width
	width, err := e.number(place+e.width, e.width)
	if err != nil || width == 0 || width > 8 || bits.OnesCount64(width) != 1 {
		return e, errFlex
	}
	keys, err := flexRef{buf: e.buf, typ: flexVectorKey, at: place, parent: e.width,
		width: int(width), depth: e.depth}.elements()
	if err == nil && keys.n != e.n {
		err = errFlex
	}
	return keys, err
}

// flex writes a value of a FlexBuffer.
func (w *writer) flex(r flexRef) error {
	if err := w.checkSize(); err != nil {
		return err
	}
	switch t := r.typ; t {
	case flexNull:
		w.raw("null")
	case flexInt, flexUint, flexBool, flexFloat:
		return w.flexNumber(r, t, r.at, r.parent)
	case flexIndirectInt, flexIndirectUint, flexIndirectFloat:
		at, err := r.target()
		if err != nil {
			return err
		}
		return w.flexNumber(r, t-flexIndirectInt+flexInt, at, r.width)
	case flexKey:
		key, err := r.key()
		if err != nil {
			return err
		}
		return w.flexString(key, !w.o.Flatc || w.o.Strict)
	case flexString:
		s, err := r.bytes()
		if err != nil {
			return err
		}
		return w.flexString(s, true)
	case flexBlob:
		s, err := r.bytes()
		if err != nil {
			return err
		}
		if w.o.Flatc {
			return w.flexString(s, true)
		}
		return w.list(len(s), func(i int) error {
			w.out = strconv.AppendUint(w.out, uint64(s[i]), 10)
			return nil
		})
	case flexMap:
		return w.flexMap(r)
	default:
		if t > flexVectorBool || t > flexBool && t < flexVectorBool {
			return fmt.Errorf("the FlexBuffer has a value of type %d, which does not exist", t)
		}
		return w.flexVector(r)
	}
	return nil
}

func (w *writer) flexNumber(r flexRef, t flexType, at, width int) error {
	if t == flexFloat {
		f, err := r.float(at, width)
		if err != nil {
			return err
		}
		switch {
		case w.o.Flatc:
			w.out = appendFixed(w.out, f, 12)
		case math.IsNaN(f):
			w.raw("nan")
		case math.IsInf(f, 0):
			w.raw(map[bool]string{true: "inf", false: "-inf"}[f > 0])
		default:
			// A point, or an exponent, tells it from a whole number.
			start := len(w.out)
			w.out = appendFloat(w.out, f, 8)
			if !bytes.ContainsAny(w.out[start:], ".e") {
				w.raw(".0")
			}
		}
		return nil
	}
	v, err := r.number(at, width)
	switch {
	case err != nil:
		return err
	case t == flexBool:
		w.out = strconv.AppendBool(w.out, v != 0)
	case t == flexUint:
		w.out = strconv.AppendUint(w.out, v, 10)
	default:
		w.out = strconv.AppendInt(w.out, signed(v, width), 10)
	}
	return nil
}

// flexString writes a string, with or without quotes. flatc writes the bytes of one that is not
// UTF-8 as escapes, even in a strict text.
func (w *writer) flexString(s []byte, quoted bool) error {
	if !quoted {
		w.out = append(w.out, s...)
		return nil
	}
	return w.quote(s, w.o.Flatc)
}

// flexMap writes a map.
func (w *writer) flexMap(r flexRef) error {
	values, err := r.elements()
	if err != nil {
		return err
	}
	keys, err := values.keys()
	if err != nil {
		return err
	}
	return w.flexList('{', '}', values.n, func(i int) error {
		key, err := keys.at(i).key()
		if err != nil {
			return err
		}
		if err := w.flexString(key, !w.o.Flatc || w.o.Strict || !isName(key)); err != nil {
			return err
		}
		w.colon()
		return w.flex(values.at(i))
	})
}

func (w *writer) flexVector(r flexRef) error {
	e, err := r.elements()
	if err != nil {
		return err
	}
	return w.flexList('[', ']', e.n, func(i int) error { return w.flex(e.at(i)) })
}

// flexList writes n elements; flatc writes those of FlexBuffers in one line.
func (w *writer) flexList(opening, closing byte, n int, element func(int) error) error {
	if !w.o.Flatc {
		return w.elements(opening, closing, n, element)
	}
	w.out = append(w.out, opening, ' ')
	for i := range n {
		if i > 0 {
			w.raw(", ")
		}
		if err := element(i); err != nil {
			return err
		}
	}
	w.out = append(w.out, ' ', closing)
	return nil
}

// isName reports whether a key needs no quotes.
func isName(s []byte) bool {
	for i, c := range s {
		if !isLetter(c) && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return len(s) > 0
}
