package where

import "testing"

func TestHolds(t *testing.T) {
	const text = `{"code": "ok", "micros": 120.5, "seq": 18446744073709551615, "on": true,
		"request": {"value": 0.75, "name": "bass drum", "id": "7",
			"track": [{"gain": 1}, {"gain": 3, "mute": false}], "levels": [1, 2]}}`
	v, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for condition, want := range map[string]bool{
		"code=ok": true, "code!=ok": false, `code="ok"`: true, "code = ok ": true,
		"micros>120": true, "micros>=120.5": true, "micros<120.5": false, "micros<=1.205e2": true,
		"seq=18446744073709551615": true, "seq=18446744073709551614": false,
		"seq>18446744073709551614": true, "on=true": true, "on=false": false,
		"request.value>0.5": true, "request.value>0.75": false, "request.name~drum": true,
		"request.name~base": false, "request.name=bass drum": true, "request.id=7": true,
		"request.track.gain=3": true, "request.track.0.gain=3": false,
		"request.track.1.gain=3": true, "request.track.2.gain=3": false,
		"request.track.gain!=3": false, "request.levels=2": true, "request.levels.1=2": true,
		// Where nothing is.
		"error=x": false, "error!=x": true, "error=null": true, "code=null": false,
		"request.nothing.more>1": false, "code.more=1": false,
	} {
		c, err := Parse(condition)
		if err != nil {
			t.Errorf("%s: %v", condition, err)
			continue
		}
		if got := c.Holds(v); got != want {
			t.Errorf("%s: %v", condition, got)
		}
	}
	for _, wrong := range []string{"", "code", "=1", "a..b=1", "a b=1", "a!1", "a>x", "a[0]=1",
		"a>1e999999999"} {
		if _, err := Parse(wrong); err == nil {
			t.Errorf("%q is a condition", wrong)
		}
	}
}
