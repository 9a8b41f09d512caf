package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// machine describes where the numbers come from.
func machine() string {
	cpu := fieldOf("/proc/cpuinfo", "model name")
	if cpu == "" {
		cpu = runtime.GOARCH
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	guest := ""
	if slices.Contains(strings.Fields(fieldOf("/proc/cpuinfo", "flags")), "hypervisor") {
		guest = ", in a virtual machine"
	}
	return fmt.Sprintf("%d × %s%s, %s %s, %s", runtime.NumCPU(), cpu, guest, runtime.GOOS,
		strings.TrimSpace(string(kernel)), runtime.Version())
}

// fieldOf finds the first "name : value" of a file of such lines.
func fieldOf(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
