package conformance

import (
	"context"
	"fmt"
	"io"
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	localv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	loggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	trustv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// SPIRE's services of which a TCP client can call something.
var remoteServices = []protoreflect.ServiceDescriptor{
	agentv1.File_spire_api_server_agent_v1_agent_proto.Services().Get(0),
	bundlev1.File_spire_api_server_bundle_v1_bundle_proto.Services().Get(0),
	entryv1.File_spire_api_server_entry_v1_entry_proto.Services().Get(0),
	localv1.File_spire_api_server_localauthority_v1_localauthority_proto.Services().Get(0),
	svidv1.File_spire_api_server_svid_v1_svid_proto.Services().Get(0),
	trustv1.File_spire_api_server_trustdomain_v1_trustdomain_proto.Services().Get(0),
}

var localServices = []protoreflect.ServiceDescriptor{
	debugv1.File_spire_api_server_debug_v1_debug_proto.Services().Get(0),
	loggerv1.File_spire_api_server_logger_v1_logger_proto.Services().Get(0),
	grpc_health_v1.File_grpc_health_v1_health_proto.Services().Get(0),
}

// Who may call what beside operators and admins.
var methodCallers = map[string][]string{
	"AttestAgent": {"anybody"}, "GetBundle": {"anybody"},
	"RenewAgent": {"agent"}, "PostStatus": {"agent"},
	"GetAuthorizedEntries": {"agent"}, "SyncAuthorizedEntries": {"agent"},
	"BatchNewX509SVID": {"agent"}, "NewJWTSVID": {"agent"}, "BatchNewWITSVID": {"agent"},
	"GetFederatedBundle":  {"agent", "admin"},
	"NewDownstreamX509CA": {"downstream"}, "PublishJWTAuthority": {"downstream"},
	"PublishWITAuthority": {"downstream"},
}

func mayCall(kind, method string) bool {
	callers, special := methodCallers[method]
	if !special {
		return kind == "admin"
	}
	for _, one := range callers {
		if one == "anybody" || one == kind {
			return true
		}
	}
	return false
}

// Calls a method with an empty message, or one that says what no proto knows; the first answer's status.
func callEmpty(ctx context.Context, c *connection, method protoreflect.MethodDescriptor, unknown []byte) error {
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	request, answer := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	request.SetUnknown(unknown)
	if !method.IsStreamingClient() && !method.IsStreamingServer() {
		return c.Invoke(ctx, path, request, answer)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{
		ServerStreams: method.IsStreamingServer(), ClientStreams: method.IsStreamingClient()}, path)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err := stream.RecvMsg(answer); err != io.EOF {
		return err
	}
	return nil
}

func methodsOf(services []protoreflect.ServiceDescriptor) []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	for _, service := range services {
		for at := range service.Methods().Len() {
			all = append(all, service.Methods().Get(at))
		}
	}
	return all
}

// Of every method that the protos have: who gets through to it, and what an empty request gets there.
func TestS20EveryMethod(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	admin, downstream := entryOf(a.id, "/methods/admin"), entryOf(a.id, "/methods/downstream")
	admin.Admin, downstream.Downstream = true, true
	for kind, c := range map[string]*connection{
		"agent":      a.connection,
		"admin":      s.workload(t, a, admin),
		"downstream": s.workload(t, a, downstream),
		"workload":   s.workload(t, a, entryOf(a.id, "/methods/plain")),
		"nobody":     s.dial(t, nil),
	} {
		s.wantAdmitted(t, kind, c)
		for _, method := range methodsOf(localServices) {
			if err := callEmpty(deadline(t, callTime), c, method, nil); status.Code(err) != codes.Unimplemented {
				t.Errorf("%s: %s gives %v", kind, method.FullName(), err)
			}
		}
	}
	s.wantAdmitted(t, "admin", s.operator(t))
}

// Holds a caller to what its kind may call.
func (s *server) wantAdmitted(t *testing.T, kind string, c *connection) {
	t.Helper()
	for _, method := range methodsOf(remoteServices) {
		err := callEmpty(deadline(t, callTime), c, method, nil)
		switch code := status.Code(err); {
		case !mayCall(kind, string(method.Name())):
			if code != codes.PermissionDenied {
				t.Errorf("%s: %s gives %v", kind, method.FullName(), err)
			}
		case !answersEmpty(code):
			t.Errorf("%s: %s gives %v", kind, method.FullName(), err)
		}
	}
}

// What an empty request may be answered with: never a sign of a fault in the server.
func answersEmpty(code codes.Code) bool {
	switch code {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.Unimplemented:
		return true
	}
	return false
}

// The operator gets through to all that is not for agents and servers below; a field that is not in the
// protos is ignored.
func TestS18EveryMethodWithUnknownFields(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	a, operator := s.newAgent(t, nil), s.operator(t)
	// Field 1000, a string.
	unknown := []byte{0xc2, 0x3e, 0x03, 'n', 'e', 'w'}
	for _, method := range append(methodsOf(remoteServices), methodsOf(localServices)...) {
		name := string(method.Name())
		c := operator
		if !mayCall("admin", name) && mayCall("agent", name) {
			c = a.connection
		} else if !mayCall("admin", name) {
			continue
		}
		empty := status.Code(callEmpty(deadline(t, callTime), c, method, nil))
		if !answersEmpty(empty) {
			t.Errorf("%s gives %v", method.FullName(), empty)
		}
		if name == "PrepareX509Authority" || name == "PrepareJWTAuthority" || name == "AttestAgent" {
			continue
		}
		if code := status.Code(callEmpty(deadline(t, callTime), c, method, unknown)); code != empty {
			t.Errorf("%s gives %v, with an unknown field %v", method.FullName(), empty, code)
		}
	}
	entry := entryOf(a.id, "/unknown/"+uniqueName())
	entry.ProtoReflect().SetUnknown(unknown)
	stored := s.createOne(t, entry)
	got, err := s.getEntry(t, stored.Id)
	must(t, err)
	if !proto.Equal(got.SpiffeId, entry.SpiffeId) {
		t.Errorf("stored %v", got)
	}
}

// A method and a service that nobody has.
func TestS18UnknownMethods(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	for _, path := range []string{"/spire.api.server.entry.v1.Entry/NoSuchMethod", "/no.such.Service/Method"} {
		for _, c := range []*connection{s.operator(t), a.connection} {
			request := &entryv1.CountEntriesRequest{}
			err := c.Invoke(deadline(t, callTime), path, request, &entryv1.CountEntriesResponse{})
			wantCode(t, err, codes.Unimplemented)
		}
	}
}
