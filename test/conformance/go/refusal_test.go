package conformance

import (
	"testing"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func wantCode(t *testing.T, err error, wanted ...codes.Code) {
	t.Helper()
	for _, code := range wanted {
		if status.Code(err) == code {
			return
		}
	}
	t.Fatalf("wanted %v, got %v", wanted, err)
}

func wantStatus(t *testing.T, got *types.Status, wanted codes.Code) {
	t.Helper()
	if codes.Code(got.GetCode()) != wanted {
		t.Fatalf("wanted %v, got %v: %s", wanted, codes.Code(got.GetCode()), got.GetMessage())
	}
}

// A refusal that tells an agent what to do.
func wantDenial(t *testing.T, err error, reason types.PermissionDeniedDetails_Reason) {
	t.Helper()
	wantCode(t, err, codes.PermissionDenied)
	for _, detail := range status.Convert(err).Details() {
		if denied, ok := detail.(*types.PermissionDeniedDetails); ok && denied.Reason == reason {
			return
		}
	}
	t.Fatalf("no detail %v in %v", reason, status.Convert(err).Details())
}
