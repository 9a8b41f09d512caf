// Package pluginhost is an example; its README says how to run it.
package pluginhost

//go:generate go run github.com/ipcgen/ipcgen/cmd/ipcgen -o gen plugin.fbs
