package sys

import (
	"fmt"
	"os"
	"syscall"
)

// OwnerUID returns the user id of the owner of the file that fi describes. fi must come from
// package os.
func OwnerUID(fi os.FileInfo) (int, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("owner of %s: no stat data", fi.Name())
	}
	return int(st.Uid), nil
}
