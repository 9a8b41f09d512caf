//go:build race

package ipc_test

const raceDetector = true
