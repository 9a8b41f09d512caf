package ipc

// This file holds what only generated code refers to. What generated accessors,
// objects and verifiers stand on is package fb, in the folder of that name.

// Generated code declares "const _ = ipc.RuntimeAtLeastV1", which fails to
// compile against a runtime that is too old for it (the constant is missing) or
// that no longer supports it (the constant is gone).

// RuntimeAtLeastV1 is referred to by services, envelopes and streams generated
// for the first version of the runtime's interface. When it does not exist, bring
// ipcgen and the runtime to the same version
// (go get github.com/ipcgen/ipcgen@latest) and run go generate again.
const RuntimeAtLeastV1 = true

// NilMessage returns the error for sending nothing as the named message.
func NilMessage(name string) error {
	return Errorf(CodeInvalidArgument, "%s: the message is nil", name)
}
