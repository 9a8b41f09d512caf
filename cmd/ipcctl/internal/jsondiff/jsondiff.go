// Package jsondiff finds where two JSON texts differ.
package jsondiff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Difference is a place at which two texts differ.
type Difference struct {
	// Path is the place, "track[3].gain"; empty for the text as a whole.
	Path string `json:"path"`
	// Before and After are what the texts have there, as JSON; nil for nothing.
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// Compare returns where two texts differ, in the order of their paths, limit differences at most. A
// text that is no JSON is compared as a whole. The order of an object's members does not matter.
// Numbers differ if their texts do.
func Compare(before, after []byte, limit int) []Difference {
	if bytes.Equal(before, after) {
		return nil
	}
	c := &comparison{limit: limit}
	a, okA := parse(before)
	b, okB := parse(after)
	if okA && okB {
		c.compare("", a, b)
	} else {
		c.add("", quoted(before, okA), quoted(after, okB))
	}
	return c.found
}

func parse(text []byte) (v any, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return v, d.Decode(&v) == nil
}

// quoted returns text, which becomes a string if it is no JSON.
func quoted(text []byte, valid bool) json.RawMessage {
	if valid {
		return text
	}
	return jsonOf(string(text))
}

type comparison struct {
	limit int
	found []Difference
}

func (c *comparison) add(path string, before, after json.RawMessage) {
	if len(c.found) < c.limit {
		c.found = append(c.found, Difference{path, before, after})
	}
}

func (c *comparison) compare(path string, a, b any) {
	if len(c.found) >= c.limit {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			c.objects(path, x, y)
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			c.arrays(path, x, y)
			return
		}
	default:
		switch b.(type) {
		case map[string]any, []any:
		default:
			if a == b {
				return
			}
		}
	}
	c.add(path, jsonOf(a), jsonOf(b))
}

func (c *comparison) objects(path string, a, b map[string]any) {
	names := slices.Collect(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		x, inA := a[name]
		y, inB := b[name]
		place := member(path, name)
		switch {
		case !inA:
			c.add(place, nil, jsonOf(y))
		case !inB:
			c.add(place, jsonOf(x), nil)
		default:
			c.compare(place, x, y)
		}
	}
}

func (c *comparison) arrays(path string, a, b []any) {
	for i := range max(len(a), len(b)) {
		place := path + "[" + strconv.Itoa(i) + "]"
		switch {
		case len(c.found) >= c.limit:
			return
		case i >= len(a):
			c.add(place, nil, jsonOf(b[i]))
		case i >= len(b):
			c.add(place, jsonOf(a[i]), nil)
		default:
			c.compare(place, a[i], b[i])
		}
	}
}

// member returns the path of a member. A name that is no identifier is quoted.
func member(path, name string) string {
	plain := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz"+
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == ""
	switch {
	case !plain:
		return fmt.Sprintf("%s[%q]", path, name)
	case path == "":
		return name
	}
	return path + "." + name
}

// jsonOf returns what was parsed, or a string, as JSON.
func jsonOf(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return json.RawMessage(strconv.Quote(err.Error()))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
