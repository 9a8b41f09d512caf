package main

//go:generate go run -C .. ./cmd/ipcgen -o bench/gen bench/schema/bulk.fbs
