package fbjson_test

import "testing"

// chosen has what flatc 25.12.19 says of texts for testdata/more.fbs that were chosen by hand: each
// form of numbers, names, strings and lists, in each kind of field, at and beyond its limits.
const chosen = "testdata/chosen.jsonl"

// otherwise has those of the texts that are read otherwise than by flatc, with their exact JSON;
// it is empty for a text that is refused. The documentation of the package names the differences.
var otherwise = map[string]string{
	`{u_type:Tree}`:                          "",
	`{u_type:Tree,u:null}`:                   "",
	`{u_type:Tree,v:{}}`:                     "",
	`{us_type:[Tree]}`:                       "",
	`{us_type:[Tree],us:[]}`:                 "",
	`{us:[]}`:                                "",
	`{d:-0}`:                                 `{"d":-0}`,
	`{d:-0.0}`:                               `{"d":-0}`,
	`{f:-0}`:                                 `{"f":-0}`,
	`{f:-0.0}`:                               `{"f":-0}`,
	`{floats:[{f:-0.0},{f:-1}]}`:             `{"floats":[{"f":-1},{"f":-0}]}`,
	`{flex:0x10}`:                            `{"flex":16}`,
	`{flex:9223372036854775808}`:             `{"flex":9223372036854775808}`,
	`{flex:18446744073709551615}`:            `{"flex":18446744073709551615}`,
	`{n:"more.Colour.Green"}`:                `{"n":1}`,
	`{u:{u:"deep",u_type:Text},u_type:Tree}`: `{"u_type":"Tree","u":{"u_type":"Text","u":"deep"}}`,
	`{inner:{u_type:Tree,u:{}}}`:             `{"inner":{"u_type":"Tree","u":{}}}`,
	`{inner:{c:Blue}}`:                       `{"inner":{"c":"Blue"}}`,
	`{floats:[{n:1},{n:2}]}`:                 `{"floats":[{"f":0,"n":1},{"f":0,"n":2}]}`,
}

// TestChosen compares with flatc. To add a case, add a line with its text alone, and record the
// verdicts with -flatc.
func TestChosen(t *testing.T) {
	if *flatcPath != "" {
		var texts []string
		for _, v := range readVerdicts(t, chosen) {
			texts = append(texts, v.Text)
		}
		judge(t, "testdata/more.fbs", texts, chosen)
	}
	typ := loadFile(t, "testdata/more.fbs").Root()
	read, refused := 0, 0
	for _, v := range readVerdicts(t, chosen) {
		want, differs := otherwise[v.Text]
		switch {
		case differs && want == "":
			if _, err := typ.AppendBuffer(nil, []byte(v.Text), nil); err == nil {
				t.Errorf("%s was read", v.Text)
			}
		case differs:
			if got := mustWrite(t, typ, mustRead(t, typ, v.Text, nil), nil); got != want {
				t.Errorf("%s: %s, want %s", v.Text, got, want)
			}
		case v.compare(t, typ):
			read++
		default:
			refused++
		}
	}
	if read < 300 || refused < 300 {
		t.Errorf("%d texts were read, %d refused", read, refused)
	}
}
