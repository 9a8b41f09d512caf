module github.com/ipcgen/ipcgen/cmd/ipcctl

go 1.26.0

require (
	github.com/google/flatbuffers v25.12.19+incompatible
	github.com/ipcgen/ipcgen v0.0.0
	github.com/urfave/cli/v3 v3.14.0
	golang.org/x/sys v0.49.0
	golang.org/x/term v0.47.0
)

require (
	github.com/dave/jennifer v1.7.1 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
)

replace github.com/ipcgen/ipcgen => ../../
