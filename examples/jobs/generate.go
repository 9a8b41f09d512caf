// Package jobs is an example; its README says how to run it.
package jobs

//go:generate go run github.com/ipcgen/ipcgen/cmd/ipcgen -o gen jobs.fbs
