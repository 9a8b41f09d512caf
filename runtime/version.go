package ipc

// Generated code declares "const _ = ipc.RuntimeAtLeastV1", which fails to
// compile against a runtime that is too old for it (the constant is missing) or
// that no longer supports it (the constant is gone).

// RuntimeAtLeastV1 is referred to by code generated for the first version of
// the runtime's interface. When it does not exist, bring ipcgen and the runtime
// to the same version (go get github.com/ipcgen/ipcgen@latest) and run
// go generate again.
const RuntimeAtLeastV1 = true
