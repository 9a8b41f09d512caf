package ipcgen

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// refused names, for a package, the words that its identifiers do not contain, each with the word
// that the package uses for the same thing. The glossary in the package's doc.go explains those.
var refused = map[string]map[string]string{
	"runtime/group": {
		"instance": "replica", "member": "replica", "follower": "standby, or session",
		"leader": "primary", "keeper": "connector", "occupant": "joined process",
		"tenant": "incarnation", "squatter": "stranger", "heir": "candidate",
		"note": "mark, or text", "turn": "trial slot",
	},
	"runtime": {
		"keeper": "connector", "guest": "admission", "lobby": "handshake slots",
		"news": "report", "note": "delivery, or notification", "turn": "inline run",
		"look": "recheck, probe, resolve or check", "hear": "read", "heed": "handle",
		"farewell": "disconnect reason", "bury": "teardown", "apart": "detached",
		"talk": "negotiate", "shake": "handshake", "over": "ended", "starve": "request space",
		"hopeless": "permanent, or fail fast",
	},
	"runtime/registry": {
		"replica": "instance", "member": "instance", "occupant": "instance", "keeper": "holder",
		"note": "record", "turn": "lock",
	},
}

// asUsers names packages whose external tests are programs of users, with words of their own: the
// messages that they send are called notes, for example.
var asUsers = map[string]bool{"runtime": true}

// vague matches words that do not name the goroutine, process or user that a comment is about.
var vague = regexp.MustCompile(`(?i)\b(whoever|somebody|nobody|he|his|guests?)\b`)

// TestHouseComments checks that comments of the module's code, except generated code, do without
// vague words.
func TestHouseComments(t *testing.T) {
	seen := 0
	for _, root := range []string{"cmd", "examples", "gen", "internal", "interop", "runtime",
		"schema"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || d.Name() == "grpctest") {
				return filepath.SkipDir
			}
			if filepath.Ext(name) != ".go" {
				return nil
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil,
				parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			if ast.IsGenerated(file) {
				return nil
			}
			seen++
			for _, group := range file.Comments {
				for _, c := range group.List {
					if w := vague.FindString(c.Text); w != "" {
						t.Errorf("%s: %q does not name the one that is meant",
							fset.Position(c.Pos()), w)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 100 {
		t.Errorf("only %d files have been checked", seen)
	}
}

// word matches a word of an identifier: ErrInUse has Err, In and Use.
var word = regexp.MustCompile(`[A-Z]?[a-z]+`)

// TestHouseWords checks that packages with a glossary obey it: no identifier that they declare
// contains a word for which the glossary has another.
func TestHouseWords(t *testing.T) {
	for pkg, words := range refused {
		files, err := filepath.Glob(filepath.FromSlash(pkg) + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("files of %s: %v, %v", pkg, files, err)
		}
		for _, name := range files {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if asUsers[pkg] && strings.HasSuffix(file.Name.Name, "_test") {
				continue
			}
			var visit func(ast.Node) bool
			visit = func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					ast.Inspect(n.X, visit)
					return false // n.Sel is checked where it is declared
				case *ast.Ident:
					checkWords(t, fset, n, words)
				}
				return true
			}
			ast.Inspect(file, visit)
		}
	}
}

func checkWords(t *testing.T, fset *token.FileSet, id *ast.Ident, refused map[string]string) {
	for _, w := range word.FindAllString(id.Name, -1) {
		if use := refused[strings.TrimSuffix(strings.ToLower(w), "s")]; use != "" {
			t.Errorf("%s: %s: the word here is %s", fset.Position(id.Pos()), id.Name, use)
		}
	}
}
