package schema

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// limits returns the least and the greatest value of an integer type. The latter is a bit pattern
// for ULong.
func (b BaseType) limits() (least int64, greatest uint64) {
	switch b {
	case Byte:
		return math.MinInt8, math.MaxInt8
	case Short:
		return math.MinInt16, math.MaxInt16
	case UShort:
		return 0, math.MaxUint16
	case Int:
		return math.MinInt32, math.MaxInt32
	case UInt:
		return 0, math.MaxUint32
	case Long:
		return math.MinInt64, math.MaxInt64
	case ULong:
		return 0, math.MaxUint64
	}
	return 0, math.MaxUint8 // UByte, UType, and Bool
}

// Holds reports whether n is a value of the integer type. For ULong, n is a bit pattern.
func (b BaseType) Holds(n int64) bool {
	least, greatest := b.limits()
	if b == ULong {
		return true
	}
	return least <= n && n <= int64(greatest)
}

// parseInteger parses an integer of the given type: decimal, with any number of leading zeros, or
// hexadecimal with 0x. A ULong is returned as its bit pattern.
func parseInteger(text string, b BaseType) (int64, error) {
	digits := strings.TrimLeft(text, " ")
	negative := false
	if digits != "" && (digits[0] == '+' || digits[0] == '-') {
		negative = digits[0] == '-'
		digits = digits[1:]
	}
	base := 10
	if len(digits) > 1 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		base, digits = 16, digits[2:]
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is not an integer", text)
	}
	least, greatest := b.limits()
	if negative {
		if err == nil && n <= -uint64(least) {
			return -int64(n), nil
		}
	} else if err == nil && n <= greatest {
		return int64(n), nil
	}
	if b == UType {
		b = UByte // the type's name in the language
	}
	return 0, fmt.Errorf("%s does not fit into %s, which holds %d to %d", text, b, least, greatest)
}

// parseFloat parses a number as C's strtod does, without the underscores that Go permits. A number
// that is too great is infinite. A NaN has no sign.
func parseFloat(text string) (float64, error) {
	digits := strings.TrimLeft(text, " ")
	negative := false
	if digits != "" && (digits[0] == '+' || digits[0] == '-') {
		negative = digits[0] == '-'
		digits = digits[1:]
	}
	x, err := strconv.ParseFloat(digits, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) ||
		strings.Contains(digits, "_") || strings.HasPrefix(digits, "+") ||
		strings.HasPrefix(digits, "-") {
		return 0, fmt.Errorf("%q is not a number", text)
	}
	if negative && !math.IsNaN(x) {
		x = -x
	}
	return x, nil
}

// lacksExponent reports whether text is a hexadecimal number without the
// exponent that makes it a float.
func lacksExponent(text string) bool {
	i := strings.IndexAny(text, "0123456789.")
	return i >= 0 && i+1 < len(text) && text[i] == '0' && text[i+1]|0x20 == 'x' &&
		!strings.ContainsAny(text[i+2:], "pP")
}

// call computes a function of the schema language. The result is rounded to 12 decimals, as flatc
// does, so that both produce the same default.
func call(function string, x float64) float64 {
	switch function {
	case "deg":
		x = x / math.Pi * 180
	case "rad":
		x = x * math.Pi / 180
	case "sin":
		x = math.Sin(x)
	case "cos":
		x = math.Cos(x)
	case "tan":
		x = math.Tan(x)
	case "asin":
		x = math.Asin(x)
	case "acos":
		x = math.Acos(x)
	case "atan":
		x = math.Atan(x)
	}
	if rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', 12, 64), 64); err == nil {
		return rounded
	}
	return x
}
