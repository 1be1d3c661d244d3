package conformance

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func jwtBundle(t *testing.T, bundle *types.Bundle) *jwtbundle.Bundle {
	t.Helper()
	result := jwtbundle.New(trustDomain)
	for _, authority := range bundle.JwtAuthorities {
		key, err := x509.ParsePKIXPublicKey(authority.PublicKey)
		must(t, err)
		must(t, result.AddJWTAuthority(authority.KeyId, key))
	}
	return result
}

// A token's header and claims, unchecked.
func jwtParts(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token of %d parts", len(parts))
	}
	for at, into := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[at])
		must(t, err)
		must(t, json.Unmarshal(text, into))
	}
	return header, claims
}

func TestS22JWTSVID(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(a.id, "/jwt/"+uniqueName()))
	bundle := jwtBundle(t, s.bundle(t))
	for _, audience := range [][]string{{"one"}, {"one", "two"}} {
		before := time.Now().Truncate(time.Second)
		svid := a.jwtSVID(t, entry.Id, audience...)
		for _, name := range audience {
			parsed, err := jwtsvid.ParseAndValidate(svid.Token, bundle, []string{name})
			must(t, err)
			if parsed.ID.String() != textOf(entry.SpiffeId) || textOf(svid.Id) != textOf(entry.SpiffeId) {
				t.Errorf("it is of %s", parsed.ID)
			}
		}
		if _, err := jwtsvid.ParseAndValidate(svid.Token, bundle, []string{"other"}); err == nil {
			t.Error("it is valid for another audience")
		}
		if life := svid.ExpiresAt - svid.IssuedAt; life != 300 {
			t.Errorf("it lives for %d s", life)
		}
		if svid.IssuedAt < before.Unix() || svid.IssuedAt > time.Now().Unix() {
			t.Errorf("issued at %d, now is %d", svid.IssuedAt, time.Now().Unix())
		}
		lintJWT(t, svid, audience)
	}
}

// JWT-SVID 2 and 3, without go-spiffe's help.
func lintJWT(t *testing.T, svid *types.JWTSVID, audience []string) {
	t.Helper()
	header, claims := jwtParts(t, svid.Token)
	for name := range header {
		if name != "alg" && name != "kid" && name != "typ" {
			t.Errorf("2: the header %s", name)
		}
	}
	algorithms := setOf("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
	if alg, _ := header["alg"].(string); !algorithms[alg] {
		t.Errorf("2.1: alg %v", header["alg"])
	}
	if kid, _ := header["kid"].(string); kid == "" {
		t.Error("2.2: no kid")
	}
	// JWT-SVID lets it be absent; SPIRE sets it.
	if header["typ"] != "JWT" {
		t.Errorf("2.3: typ %v", header["typ"])
	}
	if claims["sub"] != textOf(svid.Id) {
		t.Errorf("3.1: sub %v", claims["sub"])
	}
	wanted := []any{}
	for _, name := range audience {
		wanted = append(wanted, name)
	}
	if !reflect.DeepEqual(claims["aud"], wanted) {
		t.Errorf("3.2: aud %v", claims["aud"])
	}
	if claims["exp"] != float64(svid.ExpiresAt) || claims["iat"] != float64(svid.IssuedAt) {
		t.Errorf("3.3: exp %v, iat %v", claims["exp"], claims["iat"])
	}
}

func TestS22JWTSVIDRefused(t *testing.T) {
	s := theServer(t)
	a, other := s.newAgent(t, nil), s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(a.id, "/jwt/"+uniqueName()))
	_, err := a.tryJWT(t, entry.Id)
	wantCode(t, err, codes.InvalidArgument)
	_, err = a.tryJWT(t, entry.Id, "")
	wantCode(t, err, codes.InvalidArgument)
	_, err = a.tryJWT(t, "", "audience")
	wantCode(t, err, codes.NotFound)
	_, err = a.tryJWT(t, "no-such-entry", "audience")
	wantCode(t, err, codes.NotFound)
	_, err = other.tryJWT(t, entry.Id, "audience")
	wantCode(t, err, codes.NotFound)
}

func TestS22JWTSVIDWithJTI(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	entry := entryOf(a.id, "/jwt/"+uniqueName())
	entry.AdditionalAttributes = &types.Entry_AdditionalAttributes{JwtSvidIncludeJti: true}
	stored := s.createOne(t, entry)
	if !stored.GetAdditionalAttributes().GetJwtSvidIncludeJti() {
		t.Fatalf("stored as %v", stored)
	}
	seen := map[string]bool{}
	for range 20 {
		_, claims := jwtParts(t, a.jwtSVID(t, stored.Id, "audience").Token)
		jti, _ := claims["jti"].(string)
		if jti == "" || seen[jti] {
			t.Fatalf("jti %v", claims["jti"])
		}
		seen[jti] = true
	}
	entry = entryOf(a.id, "/jwt/"+uniqueName())
	entry.JwtSvidTtl = 60
	svid := a.jwtSVID(t, s.createOne(t, entry).Id, "audience")
	if life := svid.ExpiresAt - svid.IssuedAt; life != 60 {
		t.Errorf("it lives for %d s", life)
	}
}
