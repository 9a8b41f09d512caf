package fb

import (
	"fmt"
	"strconv"
	"strings"
)

// An integer is the type that an enum has underneath.
type integer interface {
	~int8 | ~int16 | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// ParseEnum returns the value of the enum type name that s stands for: one of
// names, or "name(n)" as String writes values that have no name.
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

// FlagsString returns the names of the bits of v with a | between them, the
// lowest bit first. Bits that have no name follow as "name(n)", as does 0.
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

// ParseFlags is ParseEnum for an enum whose values are bits: it also takes what
// FlagsString returns, several of them with a | between them.
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
