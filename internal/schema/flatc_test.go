package schema_test

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// refusedByFlatc lists the schemas of the corpus that flatc 25.12 refuses with the same include
// directories.
var refusedByFlatc = []string{
	"swift/Sources/FlatBuffers/Documentation.docc/Resources/code/fbs/monster_step_1.fbs",
	"swift/Sources/FlatBuffers/Documentation.docc/Resources/code/fbs/monster_step_4.fbs",
	"swift/Sources/FlatBuffers/Documentation.docc/Resources/code/fbs/monster_step_5.fbs",
	"swift/Sources/FlatBuffers/Documentation.docc/Resources/code/fbs/monster_step_6.fbs",
	"swift/Sources/FlatBuffers/Documentation.docc/Resources/code/fbs/monster_step_7.fbs",
	"tests/flatc/bar/bar_with_foo.fbs",
	"tests/include_test/order.fbs",
	"tests/name_clash_test/invalid_test1.fbs",
	"tests/prototest/test_include.golden.fbs",
	"tests/prototest/test_include_id.golden.fbs",
	"tests/prototest/test_union_include.golden.fbs",
	"tests/prototest/test_union_include_id.golden.fbs",
	"tests/test.fbs",
}

// refusedFor64Bits lists the schemas that need offsets of 64 bits, which Go does not support.
var refusedFor64Bits = []string{
	"tests/64bit/evolution/v2.fbs",
	"tests/64bit/test_64bit.fbs",
	"tests/default_vectors_strings_test.fbs",
}

// TestCorpusIsAcceptedAndRefusedAsByFlatc loads every schema in the module
// github.com/google/flatbuffers.
func TestCorpusIsAcceptedAndRefusedAsByFlatc(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/google/flatbuffers").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dir := strings.TrimSpace(string(out))
	opts := schema.Options{IncludeDirs: []string{
		filepath.Join(dir, "tests"), filepath.Join(dir, "tests", "include_test"), dir,
	}}
	var accepted, refused int
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".fbs" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		_, diags := schema.Load(opts, path)
		switch err := diags.Err(); {
		case slices.Contains(refusedFor64Bits, name):
			refused++
			if err == nil || !strings.Contains(err.Error(), "64-bit") {
				t.Errorf("%s: %v", name, err)
			}
		case slices.Contains(refusedByFlatc, name):
			refused++
			if err == nil {
				t.Errorf("%s was accepted", name)
			}
		case err != nil:
			t.Errorf("%s was refused: %v", name, err)
		default:
			accepted++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := len(refusedByFlatc) + len(refusedFor64Bits); accepted < 80 || refused != want {
		t.Errorf("%d schemas were accepted and %d refused, want at least 80 and %d", accepted,
			refused, want)
	}
}
