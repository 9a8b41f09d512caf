// Package robot is an example; its README says how to run it.
package robot

//go:generate go run github.com/ipcgen/ipcgen/cmd/ipcgen -o gen robot.fbs
