package fb

import (
	"fmt"
	"strconv"
	"strings"
)

// integer is the constraint for the underlying type of an enum.
type integer interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// ParseEnum returns the value that s stands for in the enum called name. s is a key of names, or
// "name(n)", which is what String returns for a value without a name. Any other s is an error.
func ParseEnum[E integer](s, name string, names map[string]E) (E, error) {
	if v, ok := names[s]; ok {
		return v, nil
	}
	if number, ok := strings.CutPrefix(s, name+"("); ok && strings.HasSuffix(number, ")") {
		if n, err := strconv.ParseInt(number[:len(number)-1], 10, 64); err == nil &&
			int64(E(n)) == n {
			return E(n), nil
		}
	}
	return 0, fmt.Errorf("fb: %q is no value of %s", s, name)
}

// FlagsString returns the names of the bits of v, separated by "|", lowest bit first. Bits without
// a name follow as "name(n)", and so does a v of 0.
func FlagsString[E integer](v E, name string, names map[E]string) string {
	var b strings.Builder
	rest := v
	for bit := E(1); bit != 0; bit <<= 1 {
		if s, ok := names[bit]; ok && v&bit != 0 {
			b.WriteString(s + "|")
			rest &^= bit
		}
	}
	if rest == 0 && b.Len() > 0 {
		return strings.TrimSuffix(b.String(), "|")
	}
	return b.String() + name + "(" + strconv.FormatInt(int64(rest), 10) + ")"
}

// ParseFlags is like [ParseEnum], for an enum whose values are bits. s may have several parts,
// separated by "|", as [FlagsString] returns them.
func ParseFlags[E integer](s, name string, names map[string]E) (E, error) {
	var v E
	for part := range strings.SplitSeq(s, "|") {
		bits, err := ParseEnum(part, name, names)
		if err != nil {
			return 0, err
		}
		v |= bits
	}
	return v, nil
}
