package gogen_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/ipcgen/ipcgen/internal/gogen"
	"github.com/ipcgen/ipcgen/internal/schema"
)

// grpcPackages are as much of gRPC as generated stubs mention: this module does
// not depend on gRPC. The module in grpctest compiles and runs them with gRPC.
var grpcPackages = map[string]string{
	"google.golang.org/grpc": `package grpc
import "context"
type CallOption interface{}
type ClientConnInterface interface {
	Invoke(ctx context.Context, method string, args, reply any, opts ...CallOption) error
	NewStream(ctx context.Context, desc *StreamDesc, method string, opts ...CallOption) (ClientStream, error)
}
type ClientStream interface { CloseSend() error; Context() context.Context; SendMsg(m any) error; RecvMsg(m any) error }
type ServerStream interface { Context() context.Context; SendMsg(m any) error; RecvMsg(m any) error }
type ServiceRegistrar interface { RegisterService(desc *ServiceDesc, impl any) }
type UnaryServerInfo struct { Server any; FullMethod string }
type UnaryHandler func(ctx context.Context, req any) (any, error)
type UnaryServerInterceptor func(ctx context.Context, req any, info *UnaryServerInfo, handler UnaryHandler) (any, error)
type MethodDesc struct {
	MethodName string
	Handler func(srv any, ctx context.Context, dec func(any) error, interceptor UnaryServerInterceptor) (any, error)
}
type StreamDesc struct {
	StreamName string
	Handler func(srv any, stream ServerStream) error
	ServerStreams, ClientStreams bool
}
type ServiceDesc struct { ServiceName string; HandlerType any; Methods []MethodDesc; Streams []StreamDesc }
`,
	"google.golang.org/grpc/codes": `package codes
type Code uint32
const (OK Code = 0; Unknown Code = 2; InvalidArgument Code = 3; Unimplemented Code = 12; Internal Code = 13)
`,
	"google.golang.org/grpc/status": `package status
import "google.golang.org/grpc/codes"
type Status struct{}
func Error(c codes.Code, msg string) error { return nil }
func Errorf(c codes.Code, format string, a ...any) error { return nil }
func FromError(err error) (*Status, bool) { return nil, false }
`,
}

// A grpcImporter imports those packages, and others as before.
type grpcImporter struct {
	fset   *token.FileSet
	others types.Importer
	done   map[string]*types.Package
}

func (i *grpcImporter) Import(path string) (*types.Package, error) {
	text, ok := grpcPackages[path]
	if !ok {
		return i.others.Import(path)
	}
	if i.done[path] == nil {
		file, err := parser.ParseFile(i.fset, path, text, 0)
		if err != nil {
			return nil, err
		}
		pkg, err := (&types.Config{Importer: i}).Check(path, i.fset, []*ast.File{file}, nil)
		if err != nil {
			return nil, err
		}
		i.done[path] = pkg
	}
	return i.done[path], nil
}

// TestStubsForGRPC type-checks the stubs of every way to lay out the output, also
// where one run writes a part of it.
func TestStubsForGRPC(t *testing.T) {
	const importPath = "example.com/gen"
	c := newChecker(t)
	for _, path := range []string{"grpctest/storage.fbs", "grpctest/names.fbs",
		"testdata/kitchen.fbs"} {
		for n := range 8 {
			opts := gogen.Options{ImportPath: importPath, GRPC: n&1 == 0,
				OneFile: n&2 != 0, All: true}
			if n&4 != 0 {
				opts.Package = "one"
			}
			if opts.Package != "" && path != "grpctest/storage.fbs" {
				continue // several packages have types of one name
			}
			t.Run(fmt.Sprintf("%s grpc=%t one-file=%t package=%q", path, opts.GRPC, opts.OneFile,
				opts.Package), func(t *testing.T) {
				files := generate(t, opts, schema.Options{}, path)
				if err := c.check(importPath, files); err != nil {
					t.Fatal(err)
				}
				stubs := 0
				for _, f := range files {
					if strings.Contains(string(f.Content), `"google.golang.org/grpc"`) {
						stubs++
					}
				}
				if (stubs > 0) != opts.GRPC {
					t.Errorf("%d files import gRPC", stubs)
				}
			})
		}
	}
}
