// Package greeter is an example; its README says how to run it.
package greeter

//go:generate go run github.com/ipcgen/ipcgen/cmd/ipcgen -o gen greeter.fbs
