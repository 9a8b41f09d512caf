// Package where has conditions on JSON: whether the value at a path is equal to another one,
// greater or less, or has a text in it.
package where

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// A Condition is one on a value of JSON: "request.value>0.5".
type Condition struct {
	// Path has the names of members, and perhaps the places of elements, from the outside in.
	Path  []string
	op    string
	value any // nil, bool, json.Number or string
}

// ops are the comparisons. One that another begins with comes behind that.
var ops = []string{"!=", ">=", "<=", "=", ">", "<", "~"}

// Parse reads a condition: a path of names and places of elements between points, a comparison, and
// a number, true, false, null, or a text, with quotes or without.
func Parse(text string) (*Condition, error) {
	at := strings.IndexAny(text, "!=<>~")
	if at < 0 {
		return nil, errors.New("a condition is a path, one of = != > >= < <= ~, and a value")
	}
	c := &Condition{Path: strings.Split(strings.TrimSpace(text[:at]), ".")}
	for _, op := range ops {
		if rest, ok := strings.CutPrefix(text[at:], op); ok {
			c.op, c.value = op, valueOf(strings.TrimSpace(rest))
			break
		}
	}
	for _, name := range c.Path {
		if name == "" || strings.ContainsAny(name, ` []"`) {
			return nil, fmt.Errorf("%q is no path; names and places stand between points, "+
				"request.track.0.gain", text[:at])
		}
	}
	switch c.op {
	case "":
		return nil, fmt.Errorf("there is no comparison %q", text[at:at+1])
	case "<", "<=", ">", ">=":
		if _, ok := c.value.(json.Number); !ok {
			return nil, fmt.Errorf("%s compares numbers, and %v is none", c.op, c.value)
		}
	}
	return c, nil
}

func valueOf(text string) any {
	if v, err := Decode([]byte(text)); err == nil {
		switch v := v.(type) {
		case nil, bool, string:
			return v
		case json.Number:
			// The exponent of an exact number takes its memory.
			if _, err := strconv.ParseFloat(text, 64); err == nil {
				return v
			}
		}
	}
	return text
}

// Decode decodes the JSON that [Condition.Holds] takes.
func Decode(text []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// Holds reports whether the condition holds for a value: for the one at its path, or for one of
// them, if the path leads through an array without a place. Where nothing is, only != holds, and
// =null.
func (c *Condition) Holds(v any) bool {
	if c.op == "!=" {
		return !anyAt(v, c.Path, func(v any) bool { return equal(v, c.value) })
	}
	return anyAt(v, c.Path, c.holdsFor)
}

// anyAt reports whether f holds for a value at a path. Nothing is null.
func anyAt(v any, path []string, f func(any) bool) bool {
	switch x := v.(type) {
	case []any:
		if len(path) > 0 {
			if i, err := strconv.Atoi(path[0]); err == nil {
				return i >= 0 && i < len(x) && anyAt(x[i], path[1:], f)
			}
		}
		for _, e := range x {
			if anyAt(e, path, f) {
				return true
			}
		}
		return false
	case map[string]any:
		if len(path) > 0 {
			return anyAt(x[path[0]], path[1:], f)
		}
		return false
	}
	if len(path) > 0 {
		return f(nil)
	}
	return f(v)
}

func (c *Condition) holdsFor(v any) bool {
	switch c.op {
	case "=":
		return equal(v, c.value)
	case "~":
		text, ok := v.(string)
		return ok && strings.Contains(text, fmt.Sprint(c.value))
	}
	number, ok := v.(json.Number)
	if !ok {
		return false
	}
	switch n := compare(number, c.value.(json.Number)); c.op {
	case ">":
		return n > 0
	case ">=":
		return n >= 0
	case "<":
		return n < 0
	default:
		return n <= 0
	}
}

func equal(a, b any) bool {
	x, ok := a.(json.Number)
	y, both := b.(json.Number)
	if ok && both {
		return compare(x, y) == 0
	}
	if s, ok := a.(string); ok && both { // a text of digits
		return s == y.String()
	}
	return a == b
}

// compare compares two numbers, integers exactly.
func compare(a, b json.Number) int {
	x, ok := new(big.Int).SetString(a.String(), 10)
	y, both := new(big.Int).SetString(b.String(), 10)
	if ok && both {
		return x.Cmp(y)
	}
	f, _ := a.Float64()
	g, _ := b.Float64()
	switch {
	case f < g:
		return -1
	case f > g:
		return 1
	}
	return 0
}
