package ipc

// NilMessage returns the error for sending nothing as the named message.
func NilMessage(name string) error {
	return Errorf(CodeInvalidArgument, "%s: the message is nil", name)
}
