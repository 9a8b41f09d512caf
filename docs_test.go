package ipcgen

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	ipc "github.com/ipcgen/ipcgen/runtime"
)

// pages returns the names of all pages of the project, of every module in it.
func pages(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		hidden := name != "." && strings.HasPrefix(d.Name(), ".")
		made := filepath.ToSlash(name) == "bench/results" // by a benchmark's run
		if err == nil && d.IsDir() && (hidden || made) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".md") {
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// read returns the text of a file of the project.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// A line is a line of prose of a page: one outside of fenced blocks.
type line struct {
	number int
	text   string
}

// prose returns the lines of a page outside of fenced blocks.
func prose(page string) (lines []line) {
	fenced := false
	for i, text := range strings.Split(page, "\n") {
		if strings.HasPrefix(strings.TrimSpace(text), "```") {
			fenced = !fenced
		} else if !fenced {
			lines = append(lines, line{i + 1, text})
		}
	}
	return lines
}

var linkDefinition = regexp.MustCompile(`^\[[^\]]+\]: `)

// maxColumns is the longest line of prose. Tables and link definitions cannot be broken.
const maxColumns = 100

// TestHouseDocsWidth checks that lines of prose fit into an editor.
func TestHouseDocsWidth(t *testing.T) {
	for _, name := range pages(t) {
		for _, l := range prose(read(t, name)) {
			n := utf8.RuneCountInString(l.text)
			if n > maxColumns && !strings.HasPrefix(l.text, "|") &&
				!linkDefinition.MatchString(l.text) {
				t.Errorf("%s:%d has %d columns; break it at %d", name, l.number, n, maxColumns)
			}
		}
	}
}

var (
	codeSpan = regexp.MustCompile("`[^`]*`")
	heading  = regexp.MustCompile(`^#+ +(.*)`)
	linkText = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	// A link may be broken between its text and its target, or within its text.
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// anchor returns the anchor that GitHub gives to a heading.
func anchor(title string) string {
	title = linkText.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '-':
			return '-'
		case r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

// anchors returns the anchors of a page.
func anchors(page string) (all []string) {
	for _, l := range prose(page) {
		if m := heading.FindStringSubmatch(l.text); m != nil {
			all = append(all, anchor(m[1]))
		}
	}
	return all
}

// TestHouseDocsLinks checks that what a page links to within the project exists: the file, and the
// heading.
func TestHouseDocsLinks(t *testing.T) {
	checked := 0
	for _, name := range pages(t) {
		page := read(t, name)
		for _, l := range prose(page) {
			for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(l.text, "``"),
				-1) {
				target := m[1]
				if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
					continue
				}
				checked++
				file, fragment, _ := strings.Cut(target, "#")
				there := page
				if file != "" {
					file = filepath.ToSlash(filepath.Join(filepath.Dir(name), file))
					if _, err := os.Stat(file); err != nil {
						t.Errorf("%s:%d links to %s, which does not exist", name, l.number, file)
						continue
					}
					if fragment != "" {
						there = read(t, file)
					}
				}
				if fragment != "" && !slices.Contains(anchors(there), fragment) {
					t.Errorf("%s:%d links to %s, which has no such heading", name, l.number, target)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links found", checked)
	}
}

var contentsEntry = regexp.MustCompile(`^- \[([^\]]+)\]\(#([^)]+)\)$`)

// TestHouseDocsContents checks that the contents at the head of a page name all of its sections, in
// their order, by their headings. They may also name parts of sections.
func TestHouseDocsContents(t *testing.T) {
	checked := 0
	for _, name := range pages(t) {
		var listed, headings []string
		for _, l := range prose(read(t, name)) {
			if m := contentsEntry.FindStringSubmatch(l.text); m != nil && len(headings) == 0 {
				listed = append(listed, m[1])
			} else if m := heading.FindStringSubmatch(l.text); m != nil &&
				(strings.HasPrefix(l.text, "## ") || slices.Contains(listed, m[1])) {
				headings = append(headings, m[1])
			}
		}
		if len(listed) == 0 {
			continue
		}
		checked++
		if !slices.Equal(listed, headings) {
			t.Errorf("%s: the contents list %q; the sections are %q", name, listed, headings)
		}
	}
	if checked < 3 {
		t.Errorf("only %d pages with contents found", checked)
	}
}

// squeezed returns the lines of a text without indentation.
func squeezed(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// TestHouseDocsSnippets checks that every block of Go in the documents is part of an example, which
// the compiler reads and most of which run.
func TestHouseDocsSnippets(t *testing.T) {
	var sources []string
	for _, pattern := range []string{"runtime/example*_test.go", "runtime/*/example*_test.go",
		"nats/example*_test.go", "internal/gogen/grpctest/example*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no examples match %s (%v)", pattern, err)
		}
		for _, name := range names {
			sources = append(sources, squeezed(read(t, name)))
		}
	}
	found := 0
	for _, page := range pages(t) {
		text := read(t, page)
		if page != "README.md" && !strings.HasPrefix(page, "docs/") {
			continue
		}
		if heading := typed[page]; heading != "" { // follow runs the programs of this section
			before, rest, _ := strings.Cut(text, "\n## "+heading+"\n")
			_, after, _ := strings.Cut(rest, "\n## ")
			text = before + after
		}
		blocks := goBlock.FindAllStringSubmatch(text, -1)
		for _, b := range blocks {
			want := squeezed(b[1])
			if !slices.ContainsFunc(sources, func(s string) bool {
				return strings.Contains(s, want)
			}) {
				t.Errorf("%s has a snippet that is in no example:\n%s", page, b[1])
			}
		}
		found += len(blocks)
	}
	if found < 30 {
		t.Errorf("only %d snippets found", found)
	}
}

// TestHouseDocsOptions checks that the guide to the runtime has a row for every option.
func TestHouseDocsOptions(t *testing.T) {
	guide := read(t, "docs/runtime.md")
	names, err := filepath.Glob("runtime/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "With") {
				continue
			}
			made, _ := f.Type.Results.List[0].Type.(*ast.Ident) // not a context
			if made == nil || !strings.HasSuffix(made.Name, "Option") {
				continue
			}
			found++
			if !strings.Contains(guide, "\n| `"+f.Name.Name+"` |") {
				t.Errorf("the table of options in docs/runtime.md has no row for ipc.%s",
					f.Name.Name)
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d options found", found)
	}
}

// TestHouseDocsDefaults checks the numbers in the tables of docs/runtime.md against the constants.
func TestHouseDocsDefaults(t *testing.T) {
	guide := read(t, "docs/runtime.md")
	ms := func(d time.Duration) string { return strings.ReplaceAll(d.String(), "µs", " µs") }
	seconds := func(d time.Duration) string { return strings.TrimSuffix(d.String(), "s") + " s" }
	bytes := func(n int64) string {
		if n%(1<<20) == 0 {
			return grouped(n>>20) + " MiB"
		}
		return grouped(n>>10) + " KiB"
	}
	for row, want := range map[string]string{
		"`WithRings` | both":               bytes(ipc.DefaultRingCapacity),
		"`WithMaxMessage` | both":          bytes(ipc.DefaultMaxMessage),
		"`WithMaxCalls` | server":          grouped(ipc.DefaultMaxCalls),
		"`WithMaxConns` | server":          grouped(ipc.DefaultMaxConns),
		"`WithMaxStreamingCalls` | server": grouped(ipc.DefaultMaxStreamingCalls),
		"`WithStreamingWindow` | both":     bytes(ipc.DefaultStreamingWindow),
		"`WithHandshakeTimeout` | both":    seconds(ipc.DefaultHandshakeTimeout),
		"`WithGrace` | server":             seconds(ipc.DefaultGrace),
		"`WithPatience` | `Connect`":       seconds(ipc.DefaultPatience),
		"`WithSpin` | both": ms(time.Duration(constantOf(t, "runtime/spin.go",
			"defaultSpin"))),
		"`StreamOptions.Depth`": grouped(constantOf(t, "runtime/stream.go",
			"defaultStreamDepth")),
		"`StreamOptions.Payload`": bytes(constantOf(t, "runtime/stream.go",
			"defaultStreamPayload")),
		"memory of a stream": bytes(constantOf(t, "runtime/stream.go", "maxStreamMemory")),
	} {
		_, rest, found := strings.Cut(guide, "\n| "+row+" | ")
		if got, _, _ := strings.Cut(rest, " | "); !found || got != want {
			t.Errorf("docs/runtime.md states %q for %s; the code has %s", got, row, want)
		}
	}
	if want := grouped(constantOf(t, "internal/domain/domain.go",
		"MaxNameLen")); !strings.Contains(guide, "at most "+want+" bytes") {
		t.Errorf("docs/runtime.md does not state the longest name, %s bytes", want)
	}
}

// grouped writes a number below a million as the documents do.
func grouped(n int64) string {
	s := constant.MakeInt64(n).ExactString()
	if len(s) > 3 {
		s = s[:len(s)-3] + "," + s[len(s)-3:]
	}
	return s
}

// constantOf evaluates a constant of a file, which may be unexported, and may be a number of
// units of package time.
func constantOf(t *testing.T, name, constName string) int64 {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, s := range gen.Specs {
			spec := s.(*ast.ValueSpec)
			if spec.Names[0].Name != constName {
				continue
			}
			text := types.ExprString(spec.Values[0])
			text = strings.NewReplacer("time.Microsecond", "1000", "time.Millisecond", "1000000",
				"time.Second", "1000000000").Replace(text)
			v, err := types.Eval(fset, nil, token.NoPos, text)
			if err != nil {
				t.Fatalf("%s: %s = %s: %v", name, constName, text, err)
			}
			n, _ := constant.Int64Val(v.Value)
			return n
		}
	}
	t.Fatalf("%s declares no constant %s", name, constName)
	return 0
}

// TestHouseDocsNames checks that the functions which docs/architecture.md names on the path of
// a call exist in the package that the row gives.
func TestHouseDocsNames(t *testing.T) {
	_, path, found := strings.Cut(read(t, "docs/architecture.md"), "\n## A call, from end to end\n")
	path, _, _ = strings.Cut(path, "\n## ")
	if !found {
		t.Fatal("docs/architecture.md does not tell the path of a call")
	}
	declared := map[string][]string{} // by package
	checked := 0
	for _, row := range strings.Split(path, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 5 {
			continue
		}
		pkgs := codeSpan.FindAllString(cells[1], -1)
		if len(pkgs) != 1 {
			continue // the head of a table
		}
		pkg := strings.Trim(pkgs[0], "`")
		if declared[pkg] == nil {
			declared[pkg] = functionsOf(t, pkg)
		}
		for _, span := range codeSpan.FindAllString(cells[2], -1) {
			checked++
			if name := strings.Trim(span, "`"); !slices.Contains(declared[pkg], name) {
				t.Errorf("docs/architecture.md names %s on the path of a call, which package %s "+
					"does not declare", name, pkg)
			}
		}
	}
	if checked < 25 {
		t.Errorf("only %d names found", checked)
	}
}

// functionsOf returns the functions of a package, and its methods as "Type.Method".
func functionsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.FromSlash(pkg) + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("package %s has no files (%v)", pkg, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				name = strings.TrimPrefix(types.ExprString(f.Recv.List[0].Type), "*") + "." + name
			}
			names = append(names, name)
		}
	}
	return names
}

// generatedName matches what docs/schema.md calls generated code. The page shows the demo's schema
// and, for streams and topics, the robot's.
var generatedName = regexp.MustCompile(`\b(?:(?:New|Unimplemented)?` +
	`(?:AudioControl|ControlMsg)\w*|(?:Send|Handle)(?:StartStream|SetParam)|` +
	`(?:Open|Handle)Reading\w+|(?:New)?Status(?:Publisher|Topic)|SubscribeStatus)\b`)

// TestHouseDocsGenerated checks that the generated names in docs/schema.md are declared in
// generated code.
func TestHouseDocsGenerated(t *testing.T) {
	var declared []string
	typeDecl := regexp.MustCompile(`(?m)^(?:type|var) (\w+) `)
	for _, pkg := range []string{"gen/audio", "examples/robot/gen/robot"} {
		for _, name := range functionsOf(t, pkg) {
			declared = append(declared, name[strings.LastIndex(name, ".")+1:])
		}
		files, err := filepath.Glob(pkg + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			for _, m := range typeDecl.FindAllStringSubmatch(read(t, name), -1) {
				declared = append(declared, m[1])
			}
		}
	}
	checked := 0
	for _, l := range prose(read(t, "docs/schema.md")) {
		for _, span := range codeSpan.FindAllString(l.text, -1) {
			for _, name := range generatedName.FindAllString(span, -1) {
				checked++
				if !slices.Contains(declared, name) {
					t.Errorf("docs/schema.md:%d names %s, which generated code does not declare",
						l.number, name)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d names found", checked)
	}
}

var (
	symptom   = regexp.MustCompile(`(?ms)^\*\*(.*?)\*\*`)
	goLiteral = regexp.MustCompile(`"\s*\+\s*"`)
)

// TestHouseDocsFailover checks that what the README says at its top, and the picture there, of the
// time to the first answer of a standby is what its table says, within a factor of two.
func TestHouseDocsFailover(t *testing.T) {
	readme, picture := read(t, "README.md"), read(t, "docs/failover.svg")
	row := regexp.MustCompile(
		`\n\| a client has the standby's first answer +\| +(\S+) (ms|µs),`).FindStringSubmatch(readme)
	if row == nil {
		t.Fatal("README.md has no row with the time to the standby's first answer")
	}
	duration, err := time.ParseDuration(row[1] + row[2])
	if err != nil {
		t.Fatal(err)
	}
	measured := duration.Seconds() * 1000
	said := regexp.MustCompile(`(?:answer\w* after|killed;) about (\S+) ms\b`)
	for where, m := range map[string][][]string{
		"README.md":         said.FindAllStringSubmatch(readme, -1),
		"docs/failover.svg": said.FindAllStringSubmatch(picture, -1),
	} {
		if len(m) == 0 {
			t.Errorf("%s does not say when the standby answers", where)
		}
		for _, claim := range m {
			if n, err := strconv.ParseFloat(claim[1], 64); err != nil || n > 2*measured ||
				measured > 2*n {
				t.Errorf("%s says %q; measured were %v ms", where, claim[0], measured)
			}
		}
	}
}

// TestHouseDocsSymptoms checks that the texts of errors which docs/faq.md quotes are texts of the
// module. Those of the go command and of compilers are not.
func TestHouseDocsSymptoms(t *testing.T) {
	var source strings.Builder
	for _, root := range []string{"cmd", "internal", "runtime"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") {
				source.WriteString(goLiteral.ReplaceAllString(read(t, name), ""))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	checked := 0
	for _, m := range symptom.FindAllStringSubmatch(read(t, "docs/faq.md"), -1) {
		for _, quoted := range codeSpan.FindAllString(squeezed(m[1]), -1) {
			text := strings.Trim(quoted, "`")
			if strings.HasPrefix(text, "go: ") || strings.HasPrefix(text, "undefined: ") {
				continue
			}
			for part := range strings.FieldsFuncSeq(strings.ReplaceAll(text, "...", "\x00"),
				func(r rune) bool { return strings.ContainsRune(":;()\x00", r) }) {
				if part = strings.TrimSpace(part); !strings.Contains(part, " ") ||
					strings.HasPrefix(part, "dial ") || strings.HasPrefix(part, "attribute ") {
					continue // one word, or a part with a name in it
				}
				checked++
				if !strings.Contains(source.String(), part) {
					t.Errorf("docs/faq.md quotes %q: no error has the text %q", text, part)
				}
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d texts have been checked", checked)
	}
}
