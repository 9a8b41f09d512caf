package fb

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseEnum returns the value of the enum type name that s stands for: one of
// names, or "name(n)" as String writes values that have no name.
func ParseEnum[E ~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](s, name string, names map[string]E) (E, error) {
	if v, ok := names[s]; ok {
		return v, nil
	}
	if number, ok := strings.CutPrefix(s, name+"("); ok && strings.HasSuffix(number, ")") {
		if n, err := strconv.ParseInt(number[:len(number)-1], 10, 64); err == nil && int64(E(n)) == n {
			return E(n), nil
		}
	}
	return 0, fmt.Errorf("fb: %q is no value of %s", s, name)
}
