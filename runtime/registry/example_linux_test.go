package registry_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ipcgen/ipcgen/runtime/registry"
)

// A watch delivers the instances that are there, and then every change. In this example one process
// is the service and the watcher.
func ExampleRegistry_Watch() {
	folder, err := os.MkdirTemp("", "registry")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(folder)
	domain := filepath.Join(folder, "domain")
	reg, err := registry.Open(domain, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()

	mine, err := reg.Register(registry.Record{Name: "camera.left", Service: "camera"})
	if err != nil {
		log.Fatal(err)
	}
	for ev, err := range reg.Watch(context.Background(), "camera") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.Record.Name, ev.Kind)
		if ev.Kind == registry.Disappeared {
			break
		}
		mine.Close() // the death of the process has the same effect
	}
	// Output:
	// camera.left appeared
	// camera.left disappeared
}
