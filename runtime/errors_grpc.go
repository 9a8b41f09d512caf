package ipc

// GRPC returns the number of gRPC's status code that is nearest to c. Generated
// stubs for gRPC use it; this package does not depend on gRPC.
func (c Code) GRPC() uint32 {
	if int(c) < len(grpcCodes) {
		return grpcCodes[c]
	}
	return 2 // UNKNOWN
}

// grpcCodes are the numbers of https://grpc.io/docs/guides/status-codes, which
// are part of gRPC's protocol.
var grpcCodes = [...]uint32{
	CodeOK:                 0,
	CodeCanceled:           1,
	CodeDeadlineExceeded:   4,
	CodeUnavailable:        14,
	CodeUnimplemented:      12,
	CodeInvalidArgument:    3,
	CodeResourceExhausted:  8,
	CodeInternal:           13,
	CodeIncompatible:       9,  // FAILED_PRECONDITION
	CodeCorrupt:            15, // DATA_LOSS
	CodeFenced:             10, // ABORTED
	CodePermissionDenied:   7,
	CodeTooLarge:           8, // RESOURCE_EXHAUSTED, as gRPC has it
	CodeAlreadyExists:      6,
	CodeNotFound:           5,
	CodeFailedPrecondition: 9,
	CodeUnsupported:        12, // UNIMPLEMENTED
	CodeUnknown:            2,
}
