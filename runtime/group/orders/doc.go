// Package orders has the service by which the supervisor of a group takes orders from other
// processes of its user. It is the output of ipcgen for schema/supervisor.fbs. Programs use it
// through [group.DialSupervisor].
//
// [group.DialSupervisor]: https://pkg.go.dev/github.com/ipcgen/ipcgen/runtime/group#DialSupervisor
package orders
