// Package ipcgen is the root of the ipcgen module. It holds no code of its own:
// the generator is cmd/ipcgen, and the runtime that generated code calls is
// runtime (package ipc) with the folders below it.
//
// This file regenerates everything that ipcgen makes for this module; a user's
// module needs one such line for each of its schemas.
package ipcgen

//go:generate go run ./cmd/ipcgen -o gen schema/audio_protocol.fbs schema/mixing.fbs

// What servers tell of themselves. The runtime itself uses these types.
//go:generate go run ./cmd/ipcgen -one-file -o runtime schema/introspection.fbs

// The orders that supervisors take from other processes.
//go:generate go run ./cmd/ipcgen -one-file -o runtime/group schema/supervisor.fbs

// A module of its own, whose code is for a test.
//go:generate go -C internal/gogen/grpctest generate .
