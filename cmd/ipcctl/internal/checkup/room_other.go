//go:build !linux

package checkup

import "github.com/ipcgen/ipcgen/internal/domain"

// room has nothing to look at where the runtime does not work.
func (c *checkup) room(*domain.Dir) {}
