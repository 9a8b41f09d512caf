package replica

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestHugePages looks whether the kernel has taken the advice for memory that is to be in huge
// pages. Whether there are any left at that moment is not for a test to say.
func TestHugePages(t *testing.T) {
	if !HugePages() {
		t.Skip("the kernel has no huge pages, or gives them to nobody")
	}
	memory, err := Ballast{Bytes: 64 << 20, Huge: true}.Load()
	if err != nil {
		t.Fatal(err)
	}
	// The middle: what lies beside the memory has flags of its own.
	if flags := flagsOf(t, &memory[len(memory)/2]); !slices.Contains(flags, "hg") {
		t.Errorf("the flags of the memory are %v, without hg", flags)
	}
}

// flagsOf returns what the kernel calls the flags of the mapping in which a byte lies.
func flagsOf(t *testing.T, b *byte) []string {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	var address, low, high uint64
	if _, err := fmt.Sscanf(fmt.Sprintf("%p", b), "%v", &address); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if _, err := fmt.Sscanf(line, "%x-%x ", &low, &high); err == nil {
			continue
		}
		flags, ok := strings.CutPrefix(line, "VmFlags:")
		if ok && low <= address && address < high {
			return strings.Fields(flags)
		}
	}
	t.Fatalf("%p is in no mapping", b)
	return nil
}
