// Package bfbs reads and writes binary schemas: the .bfbs files that hold what
// a compiler made of a .fbs file, as a FlatBuffer of FlatBuffers' own
// reflection.fbs.
//
// Reading has three steps. The verifier checks that the buffer is a tree of
// tables that stay inside of it, and bounds what reading can cost. The reader
// then resolves it into the model that package schema makes of text, refusing
// what no compiler would have written, since whoever generates code trusts the
// model. Both report an [*Error] that says where.
//
// A binary schema made by flatc holds everything code for Go depends on, given
// --bfbs-builtins and --bfbs-comments, except for the default of a string.
package bfbs
