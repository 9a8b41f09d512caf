//go:build !linux

package recording

import (
	"errors"
	"math"
	"os"
)

func reserve(*os.File, int64) error { return errors.ErrUnsupported }

func fileLimit() int64 { return math.MaxInt64 }
