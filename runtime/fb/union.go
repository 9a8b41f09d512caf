package fb

import (
	"errors"
	"fmt"
	"reflect"
)

// A UnionError means that the object of a union cannot be written, because its Type and its Value
// contradict each other.
type UnionError struct {
	// Path is the field within the object that was checked, such as "next.things[2]". It is empty
	// for the union itself.
	Path   string
	Union  string // full name in the schema
	Reason string
}

// Error returns the path, the union and the reason.
func (e *UnionError) Error() string {
	s := "union " + e.Union + ": " + e.Reason
	if e.Path != "" {
		s = "field " + e.Path + ": " + s
	}
	return s
}

// BadUnion returns the error for the object of a union whose Type is typ and whose Value is value.
// It is for generated code.
func BadUnion(union string, typ fmt.Stringer, value any) error {
	held := fmt.Sprintf("Value is a %T", value)
	switch v := reflect.ValueOf(value); {
	case value == nil:
		held = "Value is nil"
	case v.Kind() == reflect.Pointer && v.IsNil():
		held = fmt.Sprintf("Value is a nil %T", value)
	}
	return &UnionError{Union: union, Reason: fmt.Sprintf("Type is %v, and %s", typ, held)}
}

// InField puts a field, or a member in parentheses, in front of the path of err if err is a
// [*UnionError], and returns the result. It is for generated code.
func InField(err error, field string) error {
	var e *UnionError
	if errors.As(err, &e) {
		if e.Path != "" && e.Path[0] != '(' {
			field += "."
		}
		e.Path = field + e.Path
	}
	return err
}

// InElement is like [InField], for an element of a vector.
func InElement(err error, field string, j int) error {
	return InField(err, fmt.Sprintf("%s[%d]", field, j))
}

// NoUnionFromJSON returns the error of decoding a union by encoding/json, which is not supported.
// It is for generated code.
func NoUnionFromJSON(union string) error {
	return fmt.Errorf(
		"union %s cannot be decoded by encoding/json, which does not know the Go type of Value: "+
			"decode the member into its own object, and set Type and Value", union)
}
