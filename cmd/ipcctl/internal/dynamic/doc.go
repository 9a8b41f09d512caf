// Package dynamic converts messages and makes calls by a schema that is known at run time only. It
// does for a tool what generated code does for a program.
package dynamic
