package golden_test

import (
	"reflect"

	flatbuffers "github.com/google/flatbuffers/go"
)

// read calls every accessor that v, a pointer to a generated accessor, has, and
// every accessor of what they lead to, and returns how many it called. It stops
// after a number of tables: a verified buffer may refer to one many times.
func read(v reflect.Value) int {
	budget := 200
	return readAll(v, &budget)
}

func readAll(v reflect.Value, budget *int) (n int) {
	if *budget--; *budget < 0 {
		return 0
	}
	t := v.Type()
	for i := range t.NumMethod() {
		m := t.Method(i)
		switch m.Name {
		case "Init", "UnPackTo", "UnPack", "LookupByKey":
			continue
		}
		n += readOne(v, m, budget)
	}
	return n
}

// readOne calls one accessor, for each index where it takes one.
func readOne(v reflect.Value, m reflect.Method, budget *int) int {
	f := v.Method(m.Index)
	t := f.Type()
	switch {
	case t.NumIn() == 0:
		f.Call(nil)
		return 1
	case t.NumIn() == 1 && t.In(0).Kind() == reflect.Pointer:
		obj := reflect.New(t.In(0).Elem())
		out := f.Call([]reflect.Value{obj})
		if out[0].Kind() == reflect.Pointer && !out[0].IsNil() {
			return 1 + readAll(out[0], budget)
		}
		return 1
	case t.NumIn() == 1 && t.In(0).Kind() == reflect.Int:
		n := 0
		for j := range length(v, m.Name) {
			f.Call([]reflect.Value{reflect.ValueOf(j)})
			n++
		}
		return n
	case t.NumIn() == 2 && t.In(0).Kind() == reflect.Pointer && t.In(1).Kind() == reflect.Int:
		n := 0
		for j := range length(v, m.Name) {
			obj := reflect.New(t.In(0).Elem())
			f.Call([]reflect.Value{obj, reflect.ValueOf(j)})
			n++
			if _, raw := obj.Interface().(*flatbuffers.Table); !raw {
				n += readAll(obj, budget)
			}
		}
		return n
	}
	return 0
}

// length returns the length of the vector that the named accessor reads.
func length(v reflect.Value, name string) int {
	f := v.MethodByName(name + "Length")
	if !f.IsValid() {
		return 0
	}
	return min(int(f.Call(nil)[0].Int()), 16)
}
