package fbjson_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ipcgen/ipcgen/runtime/fbjson"
)

// TestFlatcsOwnData reads the texts that flatc's own tests read, and writes them as flatc wrote
// the golden files beside them.
func TestFlatcsOwnData(t *testing.T) {
	tests := filepath.Join(flatbuffersModule(t), "tests")
	for _, data := range []struct{ schema, text, golden string }{
		{"monster_test.fbs", "monsterdata_test.golden", "monsterdata_test.golden"},
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
	} {
		t.Run(data.text, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(tests, data.text))
			if err != nil {
				t.Fatal(err)
			}
			typ := loadFile(t, filepath.Join(tests, data.schema)).Root()
			buf := mustRead(t, typ, string(text), nil)
			if data.golden != "" {
				golden, err := os.ReadFile(filepath.Join(tests, data.golden))
				if err != nil {
					t.Fatal(err)
				}
				if got := mustWrite(t, typ, buf, &fbjson.WriteOptions{Flatc: true}); got !=
					string(golden) {
					t.Errorf("got\n%s\nwant\n%s", got, golden)
				}
			}
			// The exact text stands for a buffer with the same text.
			exact := mustWrite(t, typ, buf, nil)
			again := mustRead(t, typ, exact, nil)
			if got := mustWrite(t, typ, again, nil); got != exact {
				t.Errorf("got\n%s\nwant\n%s", got, exact)
			}
		})
	}
}
