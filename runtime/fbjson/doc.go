// Package fbjson turns FlatBuffers into JSON and JSON into FlatBuffers, by a schema that is known
// at run time only.
//
// A [Schema] is loaded from a binary schema, a .bfbs file as ipcgen and flatc write it. A [Type]
// is one of its tables or structs:
//
//	s, err := fbjson.Load(bfbs)
//	monster, err := s.Table("MyGame.Monster")
//	text, err := monster.AppendJSON(nil, buf, nil)
//	buf, err := monster.AppendBuffer(nil, text, nil)
//
// # Writing
//
// AppendJSON verifies the buffer before it reads it. The text is valid JSON, in one line unless
// [WriteOptions] ask for indentation, and exact: a number has as many digits as it takes to read
// the same number back. Enums are written by name, flags as names with a space between them, a
// union as two members, its type and its value, and nested buffers and FlexBuffers as JSON.
// Numbers that JSON does not have are written as the strings "nan", "inf" and "-inf"; within a
// FlexBuffer, where a string would stay one, they are bare words, the only text that is not
// valid JSON. WriteOptions.Flatc asks for the text of flatc -t instead, byte for byte.
//
// # Reading
//
// AppendBuffer reads what flatc -b reads, with the same meaning, and refuses what flatc refuses.
// This is more than JSON: comments, bare keys, trailing commas, hexadecimal numbers, names of
// enum values, functions such as rad(180), a struct or table as a list of all of its fields in
// their order. There are these differences:
//
//   - A union's type without a value, and two vectors of a union of different lengths, are
//     refused, since the verifiers refuse the buffer.
//   - A zero with a sign is written, although it equals a default of zero.
//   - A function's result is not cut to 12 digits.
//   - A whole number in a FlexBuffer may be hexadecimal or exceed the range of long, up to that of
//     ulong.
//   - An enum value for a field that is no enum may name its enum with its namespace.
//   - Bare words are read in nested buffers, and in a union whose type comes behind it, as they are
//     elsewhere.
//   - Elements with equal keys keep their order.
//
// Errors are of type [*Error] and have line, column and the path of the field.
//
// # Cost
//
// Both directions take time in proportion to the text and to the buffer. Reading needs 12 bytes
// of memory for each value in the text, besides the buffer. What a small buffer may unfold to, by
// parts that are referred to many times, is limited as [fb.Limits] say, and the text by
// WriteOptions.MaxBytes.
//
// Schemas and types may be used by several goroutines at a time.
package fbjson
