package ipc

import "testing"

// TestEveryCodeHasOneOfGRPC checks that no code but OK is told as success or, for
// want of an entry, as another.
func TestEveryCodeHasOneOfGRPC(t *testing.T) {
	if len(grpcCodes) != len(codeNames) {
		t.Fatalf("%d codes of gRPC for %d codes", len(grpcCodes), len(codeNames))
	}
	for c := range codeNames {
		if got := Code(c).GRPC(); (got == 0) != (Code(c) == CodeOK) || got > 16 {
			t.Errorf("%v is %d", Code(c), got)
		}
	}
	if got := Code(1000).GRPC(); got != 2 {
		t.Errorf("an unknown code is %d", got)
	}
}
