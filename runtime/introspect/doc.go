// Package introspect has the messages by which a server tells tools of itself: its protocols and
// limits, and what it counts. They are tables of schema/introspection.fbs. Package ipc asks a
// server for them ([ipc.Describe] and its neighbours).
//
// [ipc.Describe]: https://pkg.go.dev/github.com/ipcgen/ipcgen/runtime#Describe
package introspect
