// Command audio_service is one instance of the audio demo's service. It serves
// until it is told to end, alone or as a replica of a group. Run
// audio_service -h for its usage.
package main

import (
	"context"
	"os"

	"github.com/ipcgen/ipcgen/internal/audioservice"
)

func main() {
	os.Exit(audioservice.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
