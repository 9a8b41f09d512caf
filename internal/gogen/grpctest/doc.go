// Package grpctest tests the stubs that ipcgen -grpc writes, with gRPC for Go. It
// is a module of its own, so that the core does not depend on gRPC.
package grpctest

//go:generate go tool ipcgen -grpc -o gen storage.fbs names.fbs
