package fbjson

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ipcgen/ipcgen/internal/schema"
)

// parseInt returns the bits of an integer of the given type: decimal, or hexadecimal with 0x.
func parseInt(text string, base schema.BaseType) (bits uint64, err error) {
	digits, negative := strings.TrimSpace(text), false
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		negative, digits = digits[0] == '-', digits[1:]
	}
	radix := 10
	if len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' {
		radix, digits = 16, digits[2:]
	}
	if digits != "" && (digits[0] == '-' || digits[0] == '+') {
		digits = "" // two signs
	}
	n, err := strconv.ParseUint(digits, radix, 64)
	if err != nil {
		if !errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%q is no whole number", text)
		}
		return 0, outOfRange(text, base)
	}
	width := 8 * base.Size()
	most := uint64(1)<<(width-1) - 1 // of a signed type
	switch {
	case base.IsUnsigned() || base == schema.Bool:
		most = most<<1 | 1
		if n > most || negative && n != 0 {
			return 0, outOfRange(text, base)
		}
	case negative:
		if n > most+1 {
			return 0, outOfRange(text, base)
		}
		n = -n
	case n > most:
		return 0, outOfRange(text, base)
	}
	if base == schema.Bool && n != 0 {
		n = 1
	}
	return n, nil
}

func outOfRange(text string, base schema.BaseType) error {
	return fmt.Errorf("%s is out of the range of %s", strings.TrimSpace(text), base)
}

// parseFloat returns a number. One that is too great for the type is infinite.
func parseFloat(text string, base schema.BaseType) (float64, error) {
	t := strings.TrimSpace(text)
	if strings.EqualFold(strings.TrimLeft(t, "+-"), "nan") && len(t) <= 4 {
		return math.NaN(), nil
	}
	if hex := strings.ToLower(strings.TrimLeft(t, "+-")); strings.HasPrefix(hex, "0x") &&
		!strings.Contains(hex, "p") {
		return 0, fmt.Errorf("%s has no exponent, which a hexadecimal number has as %s", t, base)
	}
	f, err := strconv.ParseFloat(t, 8*base.Size())
	if err != nil && !math.IsInf(f, 0) || strings.Contains(t, "_") {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return f, nil
}

// floatBits returns a number's bits as the given type.
func floatBits(f float64, base schema.BaseType) uint64 {
	if base == schema.Float {
		return uint64(math.Float32bits(float32(f)))
	}
	return math.Float64bits(f)
}

// A conversion is a function that a text may call with a number.
var conversions = map[string]func(float64) float64{
	"deg":  func(x float64) float64 { return x / math.Pi * 180 },
	"rad":  func(x float64) float64 { return x * math.Pi / 180 },
	"sin":  math.Sin,
	"cos":  math.Cos,
	"tan":  math.Tan,
	"asin": math.Asin,
	"acos": math.Acos,
	"atan": math.Atan,
}

// appendFloat appends the shortest decimal number that reads back as the same one.
func appendFloat(dst []byte, f float64, size int) []byte {
	format, bits := byte('f'), 8*size
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}

// appendFixed appends a number as flatc does: with so many digits behind the point, less the
// zeros at the end.
func appendFixed(dst []byte, f float64, digits int) []byte {
	switch {
	case math.IsNaN(f):
		if math.Signbit(f) {
			dst = append(dst, '-')
		}
		return append(dst, "nan"...)
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	}
	dst = strconv.AppendFloat(dst, f, 'f', digits, 64)
	end := len(dst)
	for dst[end-1] == '0' {
		end--
	}
	if dst[end-1] == '.' {
		end++
	}
	return dst[:end]
}
