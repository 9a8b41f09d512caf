package fbjson_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// ownData are the texts that flatc's own tests read, with their schemas, and one that they have in
// their source.
var ownData = []struct{ schema, text, inline string }{
	{"monster_test.fbs", "monsterdata_test.golden", ""},
	{"monster_test.fbs", "monsterdata_test.json", ""},
	{"arrays_test.fbs", "arrays_test.golden", ""},
	{"monster_extra.fbs", "monsterdata_extra.json", ""},
	{"monster_test.fbs", "unicode_test.json", ""},
	{"optional_scalars.fbs", "optional_scalars.json", ""},
	{"optional_scalars.fbs", "optional_scalars_defaults.json", ""},
	{"evolution_test/evolution_v1.fbs", "evolution_test/evolution_v1.json", ""},
	{"evolution_test/evolution_v2.fbs", "evolution_test/evolution_v2.json", ""},
	{"union_vector/union_vector.fbs", "union_vector/union_vector.json", ""},
	{"annotated_binary/annotated_binary.fbs", "annotated_binary/annotated_binary.json", ""},
	{"nan_inf_test.fbs", "nan_inf", `{value_nan: nan, value_inf: +inf, value_ninf: -inf, value: 1}`},
}

// ownForms are the flags with which flatc writes a text.
var ownForms = []struct {
	flag string
	o    fbjson.WriteOptions
}{
	{"-t", fbjson.WriteOptions{Flatc: true}},
	{"--strict-json", fbjson.WriteOptions{Flatc: true, Strict: true}},
	{"--natural-utf8", fbjson.WriteOptions{Flatc: true, NaturalUTF8: true}},
	{"--defaults-json", fbjson.WriteOptions{Flatc: true, Defaults: true}},
}

// written has what flatc 25.12.19 writes of that data, by text and flag.
const written = "testdata/written.json"

// TestFlatcsOwnData reads the texts that flatc's own tests read, and writes them as flatc does.
func TestFlatcsOwnData(t *testing.T) {
	tests := filepath.Join(flatbuffersModule(t), "tests")
	if *flatcPath != "" {
		recordOwnData(t, tests)
	}
	data, err := os.ReadFile(written)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(filepath.Join(tests, "monsterdata_test.golden"))
	if err != nil || want["monsterdata_test.golden -t"] != string(golden) {
		t.Errorf("flatc does not write its golden file: %v", err)
	}
	for _, data := range ownData {
		t.Run(data.text, func(t *testing.T) {
			text := []byte(data.inline)
			if data.inline == "" {
				if text, err = os.ReadFile(filepath.Join(tests, data.text)); err != nil {
					t.Fatal(err)
				}
			}
			typ := loadFile(t, filepath.Join(tests, data.schema)).Root()
			buf := mustRead(t, typ, string(text), nil)
			for _, form := range ownForms {
				// flatc cannot write its own evolution_v1: "unknown enum value".
				want, known := want[data.text+" "+form.flag]
				if got := mustWrite(t, typ, buf, &form.o); known && got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", form.flag, got, want)
				}
			}
			// The exact text stands for a buffer with the same text.
			exact := mustWrite(t, typ, buf, nil)
			again := mustRead(t, typ, exact, nil)
			if got := mustWrite(t, typ, again, nil); got != exact {
				t.Errorf("got\n%s\nwant\n%s", got, exact)
			}
			if !json.Valid([]byte(exact)) {
				t.Errorf("that is no JSON: %s", exact)
			}
		})
	}
}

// recordOwnData writes what flatc makes of its own data.
func recordOwnData(t *testing.T, tests string) {
	all := make(map[string]string)
	dir := t.TempDir()
	in := filepath.Join(dir, "in.json")
	for _, data := range ownData {
		text := []byte(data.inline)
		if data.inline == "" {
			var err error
			if text, err = os.ReadFile(filepath.Join(tests, data.text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(in, text, 0o600); err != nil {
			t.Fatal(err)
		}
		flatc := func(args ...string) (done bool) {
			args = append([]string{"-o", dir, "-I", filepath.Join(tests, "include_test")}, args...)
			out, err := exec.Command(*flatcPath, args...).CombinedOutput()
			if err != nil {
				t.Logf("flatc %s: %v\n%s", strings.Join(args, " "), err, out)
			}
			return err == nil
		}
		schema := filepath.Join(tests, data.schema)
		if !flatc("-b", schema, in) {
			t.Fatalf("flatc refuses %s", data.text)
		}
		for _, form := range ownForms {
			flags := []string{"-t", "--raw-binary", schema, "--", filepath.Join(dir, "in.bin")}
			if form.flag != "-t" {
				flags = append([]string{form.flag}, flags...)
			}
			matches, _ := filepath.Glob(filepath.Join(dir, "in.*"))
			for _, m := range matches { // the extension is that of the schema
				if ext := filepath.Ext(m); ext != ".json" {
					flags[len(flags)-1] = m
				}
			}
			if !flatc(flags...) {
				continue
			}
			text, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			all[data.text+" "+form.flag] = string(text)
		}
		matches, _ := filepath.Glob(filepath.Join(dir, "in.*"))
		for _, m := range matches {
			os.Remove(m)
		}
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(written, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}
