// Package recycled is the part of a program of TestRecycledRandomObjects that is not generated.
package recycled

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"

	flatbuffers "github.com/google/flatbuffers/go"
	"github.com/ipcgen/ipcgen/runtime/fb"
)

// Names for packages whose own types may have those of Go.
type (
	Bytes = []byte
	Any   = any
)

type table struct {
	unPack func(buf []byte, used any, m fb.Memory) any
	pack   func(b *flatbuffers.Builder, m any)
}

var tables = make(map[string]table)

// Add makes a table known.
func Add(name string, unPack func(Bytes, Any, fb.Memory) Any,
	pack func(*flatbuffers.Builder, Any)) bool {
	tables[name] = table{unPack, pack}
	return true
}

// Main decodes the samples of a file.
func Main() {
	data, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var samples []struct {
		Table   string
		Buffers [][]byte
	}
	if err := json.Unmarshal(data, &samples); err != nil {
		panic(err)
	}
	n, failed := 0, 0
	for _, s := range samples {
		for order := range uint64(5) {
			n += len(s.Buffers)
			if why := receive(tables[s.Table], s.Buffers, order); why != "" {
				fmt.Printf("%s: %s\n", s.Table, why)
				failed++
				break
			}
		}
	}
	fmt.Printf("%d messages of %d tables\n", n, len(samples))
	if failed > 0 {
		os.Exit(1)
	}
}

// receive decodes messages in one memory and one object, in an order of their own.
func receive(t table, buffers [][]byte, order uint64) string {
	rng := rand.New(rand.NewPCG(order, 0))
	var memory []byte
	var used any
	plain := make([]any, len(buffers))
	for _, i := range rng.Perm(len(buffers)) {
		for j := range memory[:cap(memory)] {
			memory[:cap(memory)][j] = 0xee // nothing may remain of the message before
		}
		memory = append(memory[:0], buffers[i]...)
		how := fb.Borrowed
		if rng.IntN(10) == 0 { // as by an interceptor that decodes
			how = fb.Own
		}
		used = t.unPack(memory, used, how)
		own := slices.Clone(buffers[i])
		plain[i] = t.unPack(own, nil, fb.Own)
		if why := differ(reflect.ValueOf(plain[i]), reflect.ValueOf(used), ""); why != "" {
			return fmt.Sprintf("message %d in order %d: %s", i, order, why)
		}
		if !bytes.Equal(packed(t, plain[i]), packed(t, used)) {
			return fmt.Sprintf("message %d in order %d is packed otherwise", i, order)
		}
		for j := range own {
			own[j] = 0xee // the object has a copy
		}
	}
	for i, buf := range buffers {
		again := t.unPack(buf, nil, fb.Own)
		if why := differ(reflect.ValueOf(again), reflect.ValueOf(plain[i]), ""); why != "" {
			return fmt.Sprintf("message %d has become another one: %s", i, why)
		}
	}
	return ""
}

func packed(t table, m any) []byte {
	b := flatbuffers.NewBuilder(0)
	t.pack(b, m)
	return b.FinishedBytes()
}

// differ returns where two objects differ, bit by bit.
func differ(a, b reflect.Value, path string) string {
	if a.Kind() != b.Kind() || a.IsValid() && a.Type() != b.Type() {
		return fmt.Sprintf("%s is %v, not %v", path, b, a)
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		if a.IsNil() != b.IsNil() {
			return fmt.Sprintf("%s is nil: %v, not %v", path, b.IsNil(), a.IsNil())
		}
		return differ(a.Elem(), b.Elem(), path)
	case reflect.Slice:
		if a.IsNil() != b.IsNil() || a.Len() != b.Len() {
			return fmt.Sprintf("%s has length %d, nil: %v, not %d, nil: %v", path, b.Len(),
				b.IsNil(), a.Len(), a.IsNil())
		}
		fallthrough
	case reflect.Array:
		for i := range a.Len() {
			if why := differ(a.Index(i), b.Index(i), fmt.Sprintf("%s[%d]", path, i)); why != "" {
				return why
			}
		}
	case reflect.Struct:
		_, union := a.Type().FieldByName("Value")
		union = union && a.FieldByName("Value").Kind() == reflect.Interface
		for i := range a.NumField() {
			f := a.Type().Field(i)
			if union && f.Type == reflect.TypeFor[*string]() {
				continue // where a string is kept while the union has another member
			}
			if why := differ(a.Field(i), b.Field(i), path+"."+f.Name); why != "" {
				return why
			}
		}
	case reflect.Float32, reflect.Float64:
		if x, y := bits(a), bits(b); x != y {
			return fmt.Sprintf("%s is %#x, not %#x", path, y, x)
		}
	case reflect.Invalid:
	default:
		if !a.Equal(b) {
			return fmt.Sprintf("%s is %v, not %v", path, b, a)
		}
	}
	return ""
}

func bits(v reflect.Value) uint64 { return math.Float64bits(v.Float()) }
