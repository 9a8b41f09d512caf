module github.com/ipcgen/ipcgen/internal/gogen/grpctest

go 1.26.0

require (
	github.com/google/flatbuffers v25.12.19+incompatible
	github.com/ipcgen/ipcgen v0.0.0
	google.golang.org/grpc v1.85.0
)

require (
	github.com/dave/jennifer v1.7.1 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/ipcgen/ipcgen => ../../..

tool github.com/ipcgen/ipcgen/cmd/ipcgen
