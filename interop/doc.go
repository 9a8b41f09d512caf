// Package interop has peers of the runtime in other languages, and the tests in which they talk to
// it. They are written from docs/protocol.md alone, and so find out what that page leaves open.
//
// c/ipcgen.h is a client and a server in C11: one header, without dependencies.
package interop
