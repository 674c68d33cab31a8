package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// awaitHealth reads answers of a health watch until one is want.
func awaitHealth(t *testing.T, watch grpc_health_v1.Health_WatchClient, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	for {
		r, err := watch.Recv()
		if err != nil {
			t.Fatalf("waiting for %v: %v", want, err)
		}
		if r.GetStatus() == want {
			return
		}
	}
}

// A server can be asked before and after its node serves.
func TestLifeOfANode(t *testing.T) {
	ctx := testContext(t)
	l := listen(t)
	s := Start(Config{Listener: l})
	t.Cleanup(func() { s.Stop(t.Context()) })
	c := dial(t, l)
	watch, err := grpc_health_v1.NewHealthClient(plain(t, l)).Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: "concordat.kv.v1.KV"})
	if err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, watch, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	notServed(t, c, concordat.ErrNotOnline)
	if r, err := c.Status(ctx, &adminpb.StatusRequest{}); err != nil || r.GetState() != adminpb.MemberState_MEMBER_STATE_OFFLINE || r.GetError() == "" {
		t.Errorf("status before there is a node: %v, %v", r, err)
	}
	if _, err := c.Leave(ctx, &adminpb.LeaveRequest{}); !errors.Is(err, concordat.ErrNotOnline) || s.LeaveAsked() {
		t.Errorf("leave before there is a node: %v", err)
	}

	n := openNode(t)
	s.SetNode(n)
	awaitHealth(t, watch, grpc_health_v1.HealthCheckResponse_SERVING)
	put(t, c, "alice", "100")
	r, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := n.Status()
	digest, at, err := n.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if r.GetState() != adminpb.MemberState_MEMBER_STATE_ONLINE || r.GetMember() != want.Member.String() ||
		r.GetLeader() != want.Member.String() || r.GetExecuted() != at.Executed.String() || !bytes.Equal(r.GetDigest(), digest[:]) ||
		r.GetDigestPosition() != at.Index || len(r.GetView().GetMembers()) != 1 || r.GetCounters().GetCommitted() != 1 {
		t.Errorf("status %v\nof %+v", r, want)
	}
	if _, err := c.Leave(ctx, &adminpb.LeaveRequest{}); !errors.Is(err, concordat.ErrRefused) || !s.LeaveAsked() {
		t.Errorf("leave of the last member: %v", err)
	}

	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	awaitHealth(t, watch, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	notServed(t, c, concordat.ErrClosed)
}

// notServed checks that no call of KV is served, and with which error.
func notServed(t *testing.T, c *Client, want error) {
	t.Helper()
	ctx := testContext(t)
	_, get := c.Get(ctx, &kvpb.GetRequest{Table: accountsProto})
	_, set := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto})
	_, remove := c.Delete(ctx, &kvpb.DeleteRequest{Table: accountsProto})
	_, add := c.Add(ctx, &kvpb.AddRequest{Table: accountsProto})
	_, txn := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{putOp("k", "v")}})
	_, _, scan := collect(ctx, c, &kvpb.ScanRequest{Table: accountsProto})
	for _, err := range []error{get, set, remove, add, txn, scan} {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

// brittleEngine fails when it is told to.
type brittleEngine struct {
	applier.Engine
	broken atomic.Bool
}

func (e *brittleEngine) Apply(b applier.Batch) error {
	if e.broken.Load() {
		return errors.New("the disk is gone")
	}
	return e.Engine.Apply(b)
}

// A member in ERROR says so, takes no writes, and can still be read.
func TestFailedMember(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	store, err := pebblekv.Open(filepath.Join(t.TempDir(), "data"), pebblekv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	engine := &brittleEngine{Engine: store}
	_, c := start(t, openNode(t, func(cfg *concordat.Config) { cfg.Engine = engine }), Config{})
	put(t, c, "alice", "100")
	engine.broken.Store(true)
	if _, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("bob")}); !errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("the write under way: %v", err)
	}
	if _, err := c.Put(ctx, &kvpb.PutRequest{Table: accountsProto, Key: []byte("bob")}); !errors.Is(err, concordat.ErrFailed) {
		t.Errorf("the next one: %v", err)
	}
	r, err := c.Txn(ctx, &kvpb.TxnRequest{Ops: []*kvpb.Op{getOp("alice")}})
	if err != nil || string(r.GetResults()[0].GetValue()) != "100" {
		t.Errorf("a read: %v, %v", r, err)
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil || s.GetState() != adminpb.MemberState_MEMBER_STATE_ERROR || !strings.Contains(s.GetError(), "the disk is gone") {
		t.Errorf("status: %v, %v", s, err)
	}
}

// Stop cuts off what does not end in time.
func TestStopDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	s, c := start(t, openNode(t), Config{})
	for i := range 32 {
		put(t, c, string(rune('a'+i)), strings.Repeat("v", scanBytes))
	}
	stream, err := c.Scan(testContext(t), &kvpb.ScanRequest{Table: accountsProto})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	s.Stop(now)
	s.Stop(now) // again is harmless
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	if !errors.Is(err, concordat.ErrNotOnline) {
		t.Errorf("the scan ended with %v", err)
	}
}

// certificate returns a certificate for loopback that is its own authority.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	l := listen(t)
	s := Start(Config{Listener: l, TLS: &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}})
	t.Cleanup(func() { s.Stop(t.Context()) })
	s.SetNode(openNode(t))
	for _, test := range []struct {
		name   string
		config *tls.Config
		want   error
	}{
		{"both", &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}, nil},
		{"client without certificate", &tls.Config{RootCAs: pool}, concordat.ErrNotOnline},
		{"unknown authority", &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{cert}}, concordat.ErrNotOnline},
		{"plaintext", nil, concordat.ErrNotOnline},
	} {
		c, err := Dial(l.Addr().String(), test.config)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(testContext(t), &kvpb.GetRequest{Table: accountsProto, Key: []byte("k")})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A call's time ends before its caller's does, by no more than the most.
func TestCallsEndBeforeTheirCallers(t *testing.T) {
	for given, least := range map[time.Duration]time.Duration{
		time.Minute: time.Minute - answerMost, time.Second: 4 * time.Second / 5, 0: 0,
	} {
		ctx, cancel := t.Context(), func() {}
		var deadline time.Time
		if given > 0 {
			ctx, cancel = context.WithTimeout(ctx, given)
			deadline, _ = ctx.Deadline()
		}
		_, err := inTime(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
			ends, ok := ctx.Deadline()
			if ok != (given > 0) || ok && (!ends.Before(deadline) || ends.Before(deadline.Add(least-given))) {
				t.Errorf("given %v, it ends %v before the caller", given, deadline.Sub(ends))
			}
			return nil, ctx.Err()
		})
		if err != nil {
			t.Error(err)
		}
		cancel()
	}
}

func TestDialRefuses(t *testing.T) {
	if _, err := Dial("nowhere", nil); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Error(err)
	}
}
