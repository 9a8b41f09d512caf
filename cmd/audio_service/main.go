// Command audio_service runs one instance of the audio demo's service, alone or as a replica of a
// group. It serves until it is told to end. Run audio_service -h for its usage.
package main

import (
	"context"
	"os"

	"github.com/ipcgen/ipcgen/internal/audioservice"
)

func main() {
	os.Exit(audioservice.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
