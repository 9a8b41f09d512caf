package fb

// Generated code declares "const _ = fb.RuntimeAtLeastV1". The declaration does not compile with a
// runtime that is too old for the code, which lacks the constant yet, or too new, which has dropped
// it.

// RuntimeAtLeastV1 is a reference of accessors, objects and verifiers generated for the first
// version of this package. If the compiler does not find it, bring ipcgen and the runtime to the
// same version (go get github.com/ipcgen/ipcgen@latest) and run go generate again.
const RuntimeAtLeastV1 = true
