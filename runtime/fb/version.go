package fb

// Generated code declares "const _ = fb.RuntimeAtLeastV1", which fails to
// compile against a runtime that is too old for it (the constant is missing) or
// that no longer supports it (the constant is gone).

// RuntimeAtLeastV1 is referred to by accessors, objects and verifiers generated
// for the first version of this package's interface. When it does not exist,
// bring ipcgen and the runtime to the same version
// (go get github.com/ipcgen/ipcgen@latest) and run go generate again.
const RuntimeAtLeastV1 = true
