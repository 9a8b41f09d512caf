package ipcgen

import (
	"cmp"
	"go/ast"
	"go/types"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// A lockWalk finds which mutexes of a package are taken while others are held. It follows the
// statements of a function in the order of the source, whatever the branches, and calls within the
// package, but not calls of parameters. What a goroutine or timer runs begins without locks.
type lockWalk struct {
	info  *types.Info
	decls map[*types.Func]*ast.FuncDecl
	taken map[*types.Func]map[string]taking // by mutex
	edges map[[2]string]string              // held and taken mutex; where
	pos   func(ast.Node) string
	again bool // taken has grown
}

// A lockState is what holds at a point of a function.
type lockState struct {
	held, released map[string]bool // mutexes of this function, and of its caller
	spawned        bool            // this code runs on another goroutine than the function
}

func (s lockState) clone() lockState {
	return lockState{maps.Clone(s.held), maps.Clone(s.released), s.spawned}
}

// spawned returns the state in which a goroutine or timer begins.
func spawned() lockState { return lockState{map[string]bool{}, map[string]bool{}, true} }

// A taking is how a function takes a mutex: after it has released those that its caller may hold.
type taking struct{ released map[string]bool }

// dynamic names the functions behind fields of function type that are called with locks held.
var dynamic = map[string][]string{
	"writerRole.spaceRequested": {"Conn.ensureWaiter"},
	"inbox.setPaused":           {"Conn.pause"},
	"LinkListener.Close":        {"socketListener.Close"}, // by Listener.close
	"Listener.close":            {"socketListener.Close"},
	"carrier.willWait":          {"job.willWait"},
}

// acts names methods that take or release a mutex for their caller.
var acts = map[string]string{
	"stream.begin": "+stream.mu", "stream.end": "-stream.mu",

	"writerRole.take": "+writerRole.mu", "writerRole.tryTake": "+writerRole.mu",
	"writerRole.give": "-writerRole.mu", "writerRole.drop": "-writerRole.mu",
	"writerRole.end":  "-writerRole.mu",
	"writerRole.lock": "+writerRole.mu", "writerRole.unlock": "-writerRole.mu",
}

// spawns names functions that run their argument on another goroutine.
var spawns = []string{"Go", "AfterFunc"}

// lockOf returns the mutex that a call of Lock or Unlock is about, such as "Client.mu".
func (w *lockWalk) lockOf(call *ast.CallExpr) (lock, op string) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Lock" && sel.Sel.Name != "Unlock" {
		return "", ""
	}
	field, ok := sel.X.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	return named(w.info.TypeOf(field.X)) + "." + field.Sel.Name, sel.Sel.Name
}

// named returns the name of a type or of what it points to.
func named(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}

// nameOf returns a function's name, with its receiver.
func nameOf(f *types.Func) string {
	if recv := f.Signature().Recv(); recv != nil {
		return named(recv.Type()) + "." + f.Name()
	}
	return f.Name()
}

// callees returns the functions of the package that a call may reach.
func (w *lockWalk) callees(call *ast.CallExpr) (found []*types.Func) {
	var id *ast.Ident
	name := ""
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		id = fun
	case *ast.SelectorExpr:
		id = fun.Sel
		name = named(w.info.TypeOf(fun.X)) + "." + id.Name
	default:
		return nil
	}
	if f, ok := w.info.Uses[id].(*types.Func); ok && w.decls[f.Origin()] != nil {
		return []*types.Func{f.Origin()}
	}
	for f := range w.decls {
		if slices.Contains(dynamic[name], nameOf(f)) {
			found = append(found, f)
		}
	}
	return found
}

// walk goes through the body of f, or of a function literal in it.
func (w *lockWalk) walk(f *types.Func, body ast.Node, state lockState) {
	held, released := state.held, state.released
	take := func(lock string, at ast.Node, after map[string]bool) {
		for h := range held {
			if !after[h] {
				if key := [2]string{h, lock}; w.edges[key] == "" {
					w.edges[key] = w.pos(at)
				}
			}
		}
		all := maps.Clone(released)
		maps.Copy(all, after)
		if _, known := w.taken[f][lock]; !known && !state.spawned {
			w.taken[f][lock] = taking{all}
			w.again = true
		}
	}
	act := func(op, lock string, at ast.Node) {
		switch {
		case op == "Lock":
			if !released[lock] { // otherwise it takes the caller's lock back
				take(lock, at, nil)
			}
			delete(released, lock)
			held[lock] = true
		case held[lock]:
			delete(held, lock)
		default:
			released[lock] = true
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			w.walk(f, n.Call, spawned())
			return false
		case *ast.DeferStmt:
			if lock, _ := w.lockOf(n.Call); lock == "" && w.action(n.Call) == "" {
				w.walk(f, n.Call, state.clone())
			}
			return false
		case *ast.FuncLit:
			w.walk(f, n.Body, state.clone())
			return false
		case *ast.BlockStmt:
			// A branch that returns does not change what is held after it.
			if len(n.List) == 0 || n == body {
				return true
			}
			if _, returns := n.List[len(n.List)-1].(*ast.ReturnStmt); returns {
				branch := state.clone()
				for _, s := range n.List {
					w.walk(f, s, branch)
				}
				return false
			}
		case *ast.SelectStmt:
			w.clauses(f, n.Body, state)
			return false
		case *ast.CallExpr:
			if lock, op := w.lockOf(n); lock != "" {
				act(op, lock, n)
				return false
			}
			if a := w.action(n); a != "" {
				op := map[byte]string{'+': "Lock", '-': "Unlock"}[a[0]]
				act(op, a[1:], n)
				return false
			}
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(spawns, sel.Sel.Name) {
				for _, arg := range n.Args {
					w.walk(f, arg, spawned())
				}
				return false
			}
			for _, g := range w.callees(n) {
				for lock, how := range w.taken[g] {
					take(lock, n, how.released)
				}
			}
		}
		return true
	})
}

// clauses goes through the clauses of a select statement, of which one runs.
func (w *lockWalk) clauses(f *types.Func, body *ast.BlockStmt, state lockState) {
	before := state.clone()
	clear(state.held)
	clear(state.released)
	for _, c := range body.List {
		clause := before.clone()
		w.walk(f, c, clause)
		list := c.(*ast.CommClause).Body
		if len(list) > 0 {
			if _, returns := list[len(list)-1].(*ast.ReturnStmt); returns {
				continue
			}
		}
		maps.Copy(state.held, clause.held)
		maps.Copy(state.released, clause.released)
	}
}

func (w *lockWalk) action(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	f, ok := w.info.Uses[sel.Sel].(*types.Func)
	if !ok {
		return ""
	}
	return acts[nameOf(f)]
}

var (
	lockLine  = regexp.MustCompile(`(?m)^//\t(\w+\.\w+)  `)
	orderLine = regexp.MustCompile(`(?m)^//\t(\w+\.\w+) before (\w+\.\w+)$`)
)

// TestHouseLocks checks that runtime/design.go names the mutexes of package ipc, and that the code
// takes them in the order that is stated there.
func TestHouseLocks(t *testing.T) {
	design, err := os.ReadFile("runtime/design.go")
	if err != nil {
		t.Fatal(err)
	}
	var stated []string
	for _, m := range lockLine.FindAllStringSubmatch(string(design), -1) {
		stated = append(stated, m[1])
	}
	after := map[string][]string{}
	for _, m := range orderLine.FindAllStringSubmatch(string(design), -1) {
		after[m[1]] = append(after[m[1]], m[2])
	}
	var mayTake func(held, lock string) bool
	mayTake = func(held, lock string) bool {
		for _, next := range after[held] {
			if next == lock || mayTake(next, lock) {
				return true
			}
		}
		return false
	}

	pkgs, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax}, "./runtime")
	if err != nil || len(pkgs) != 1 || len(pkgs[0].Errors) > 0 {
		t.Fatalf("%v, %v", pkgs, err)
	}
	p := pkgs[0]
	w := &lockWalk{info: p.TypesInfo, decls: map[*types.Func]*ast.FuncDecl{},
		taken: map[*types.Func]map[string]taking{}, edges: map[[2]string]string{},
		pos: func(n ast.Node) string { return p.Fset.Position(n.Pos()).String() }}
	var mutexes []string
	for _, file := range p.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				f := p.TypesInfo.Defs[n.Name].(*types.Func)
				w.decls[f], w.taken[f] = n, map[string]taking{}
			case *ast.TypeSpec:
				s, ok := n.Type.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range s.Fields.List {
					if strings.HasSuffix(p.TypesInfo.TypeOf(field.Type).String(), "Mutex") {
						mutexes = append(mutexes, n.Name.Name+"."+field.Names[0].Name)
					}
				}
			}
			return true
		})
	}
	slices.Sort(mutexes)
	slices.Sort(stated)
	if !slices.Equal(mutexes, stated) {
		t.Errorf("the mutexes of package ipc are\n\t%v\nruntime/design.go names\n\t%v",
			mutexes, stated)
	}
	for w.again = true; w.again; {
		w.again = false
		for f, decl := range w.decls {
			if decl.Body != nil {
				w.walk(f, decl.Body,
					lockState{held: map[string]bool{}, released: map[string]bool{}})
			}
		}
	}
	order := slices.SortedFunc(maps.Keys(w.edges), func(a, b [2]string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	})
	used := map[[2]string]bool{}
	for _, e := range order {
		used[e] = true
		if !mayTake(e[0], e[1]) {
			t.Errorf("%s: %s is taken under %s, which runtime/design.go does not allow",
				w.edges[e], e[1], e[0])
		}
	}
	for held, locks := range after {
		if mayTake(held, held) {
			t.Errorf("runtime/design.go orders %s before itself", held)
		}
		for _, lock := range locks {
			if !used[[2]string{held, lock}] {
				t.Errorf("runtime/design.go lets %s be taken under %s, which does not happen",
					lock, held)
			}
		}
	}
}
