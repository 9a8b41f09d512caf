package jsondiff

import (
	"fmt"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{`{"a":1,"b":[1,2]}`, `{ "b": [1, 2], "a": 1 }`, ``},
		{`{"a":1}`, `{"a":2}`, `a: 1 2`},
		{`{"a":{"b":[{"c":true},{"c":null}]}}`, `{"a":{"b":[{"c":false},{"c":0}]}}`,
			`a.b[0].c: true false; a.b[1].c: null 0`},
		{`{"a":1}`, `{"b":"<"}`, `a: 1 -; b: - "<"`},
		{`[1,2,3]`, `[1]`, `[1]: 2 -; [2]: 3 -`},
		{`[1]`, `[1,{}]`, `[1]: - {}`},
		{`{"a":[1]}`, `{"a":{"x":1}}`, `a: [1] {"x":1}`},
		{`{"odd name":1,"":2}`, `{"odd name":2,"":2}`, `["odd name"]: 1 2`},
		{`18446744073709551615`, `18446744073709551614`,
			`: 18446744073709551615 18446744073709551614`},
		{`{"a":nan}`, `{"a":nan}`, ``},
		{`{"a":nan}`, `{"a":1}`, `: "{\"a\":nan}" {"a":1}`},
		{`[1,1,1,1,1,1]`, `[2,2,2,2,2,2]`, `[0]: 1 2; [1]: 1 2; [2]: 1 2; [3]: 1 2`},
	} {
		var got []string
		for _, d := range Compare([]byte(c.a), []byte(c.b), 4) {
			before, after := string(d.Before), string(d.After)
			if d.Before == nil {
				before = "-"
			}
			if d.After == nil {
				after = "-"
			}
			got = append(got, fmt.Sprintf("%s: %s %s", d.Path, before, after))
		}
		if g := strings.Join(got, "; "); g != c.want {
			t.Errorf("%s and %s: %s, want %s", c.a, c.b, g, c.want)
		}
	}
}
