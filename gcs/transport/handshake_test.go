package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Both sides log a refusal, and the dialer's handler gets it.
func TestStrangersAreRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		change configure
		want   peerpb.RefusalReason
		words  string // in both logs
	}{
		{
			"group", func(c *Config) { c.Identity.Group = gtid.UUID{1} },
			peerpb.RefusalReason_REFUSAL_REASON_WRONG_GROUP, "belongs to group 01000000-",
		},
		{
			"incarnation", func(c *Config) { c.Identity.Incarnation = gtid.UUID{2} },
			peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION, "belongs to incarnation 02000000-",
		},
		{
			"no incarnation", func(c *Config) { c.Identity.Incarnation = gtid.UUID{} },
			peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION, "belongs to incarnation none",
		},
		{
			"raft id of the dialed one", func(c *Config) { c.Identity.RaftID = 2 },
			peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN, "goes by raft id 2",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := start(t, 1, test.change), start(t, 2)
			if test.want == peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN {
				a.addPeerForTest(2, b.address)
			} else {
				a.dials(b)
			}
			a.refused(t, 2, test.want)
			a.logged(t, "no stream to peer", test.words)
			b.logged(t, "peer refused", test.words)
			if a.wasUp(2) || b.knows(1) {
				t.Error("the stranger got in")
			}
		})
	}
}

// addPeerForTest dials even this member's own raft id.
func (t *Transport) addPeerForTest(id uint64, address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addPeer(id, address)
}

func TestWrongTargetIsRefused(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.SetPeers(map[uint64]string{3: b.address})
	a.refused(t, 3, peerpb.RefusalReason_REFUSAL_REASON_NOT_THIS_MEMBER)
	b.logged(t, "peer refused", "raft id 3 was looked for")
}

func TestJoinerWithoutIncarnationRefusesUntilTold(t *testing.T) {
	leader := start(t, 1)
	joiner := start(t, 2, func(c *Config) { c.Identity.Incarnation = gtid.UUID{} })
	leader.dials(joiner)
	leader.refused(t, 2, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION)
	joiner.setIncarnation(testIncarnation)
	leader.untilUp(t, 2, 1)
	joiner.untilUp(t, 1, 1)
}

// rawClient speaks the protocol through gRPC's own codec.
func rawClient(t *testing.T, to node) peerpb.PeerClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+to.address, clientOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return peerpb.NewPeerClient(conn)
}

// helloTo is a Hello that the node welcomes.
func helloTo(to node, id uint64, change ...func(*peerpb.Hello)) *peerpb.ConnectRequest {
	self := self{Identity: to.cfg.Identity, address: "127.0.0.1:1"}
	self.RaftID, self.Member = id, gtid.UUID{0: 0x3e, 15: byte(id)}
	hello := &peerpb.Hello{Identity: self.proto(), TargetRaftId: to.id}
	for _, c := range change {
		c(hello)
	}
	return &peerpb.ConnectRequest{Hello: hello}
}

// connect opens a stream with that request.
func connectRaw(t *testing.T, client peerpb.PeerClient, first *peerpb.ConnectRequest) clientStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	stream, err := client.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if first != nil {
		if err := stream.Send(first); err != nil {
			t.Fatal(err)
		}
	}
	return stream
}

func welcomed(t *testing.T, stream clientStream) {
	t.Helper()
	response, err := stream.Recv()
	if err != nil || response.GetWelcome().GetIdentity().GetRaftId() == 0 {
		t.Fatalf("got %v, %v, want a welcome", response, err)
	}
}

// ends fails unless the stream ends with that code.
func ends(t *testing.T, stream clientStream, want codes.Code) {
	t.Helper()
	response, err := stream.Recv()
	if status.Code(err) != want {
		t.Fatalf("got %v, %v, want code %v", response, err, want)
	}
}

func TestHelloIsChecked(t *testing.T) {
	b := start(t, 2)
	client := rawClient(t, b)
	for _, test := range []struct {
		name   string
		change func(*peerpb.Hello)
		want   peerpb.RefusalReason
	}{
		{"version", func(h *peerpb.Hello) { h.Identity.ProtocolVersion = 1 }, peerpb.RefusalReason_REFUSAL_REASON_WRONG_PROTOCOL_VERSION},
		{"nobody", func(h *peerpb.Hello) { h.Identity = nil }, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY},
		{"short group", func(h *peerpb.Hello) { h.Identity.Group = []byte{1} }, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY},
		{"long incarnation", func(h *peerpb.Hello) { h.Identity.Incarnation = make([]byte, 17) }, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY},
		{"no member", func(h *peerpb.Hello) { h.Identity.Member = nil }, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY},
		{"no raft id", func(h *peerpb.Hello) { h.Identity.RaftId = 0 }, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY},
		{"no address", func(h *peerpb.Hello) { h.Identity.Address = "" }, peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_IDENTITY},
		{"target", func(h *peerpb.Hello) { h.TargetRaftId = 9 }, peerpb.RefusalReason_REFUSAL_REASON_NOT_THIS_MEMBER},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream := connectRaw(t, client, helloTo(b, 1, test.change))
			_, err := stream.Recv()
			if r, ok := errors.AsType[*RefusedError](fromStatus(err)); !ok || r.Reason != test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// A newer stream of a peer ends the older one; an older run, or another member
// by the same raft id, does not get in.
func TestOneStreamPerPeer(t *testing.T) {
	b := start(t, 2)
	client := rawClient(t, b)
	session := func(n uint64) func(*peerpb.Hello) { return func(h *peerpb.Hello) { h.Identity.Session = n } }
	first := connectRaw(t, client, helloTo(b, 1, session(3)))
	welcomed(t, first)
	second := connectRaw(t, client, helloTo(b, 1, session(3)))
	welcomed(t, second)
	ends(t, first, codes.Unavailable)

	refused := func(want peerpb.RefusalReason, change func(*peerpb.Hello)) {
		_, err := connectRaw(t, client, helloTo(b, 1, change)).Recv()
		if r, ok := errors.AsType[*RefusedError](fromStatus(err)); !ok || r.Reason != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	refused(peerpb.RefusalReason_REFUSAL_REASON_OLD_SESSION, session(2))
	refused(peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN, func(h *peerpb.Hello) { h.Identity.Member = make([]byte, 16) })
	if err := second.Send(&peerpb.ConnectRequest{Messages: [][]byte{{5}}}); err != nil {
		t.Fatal(err)
	}
	b.until(t, "message on the second stream", func() bool { return len(b.got[1]) == 1 })
}

// What a stranger sends ends its stream, and nothing else.
func TestMalformedRequests(t *testing.T) {
	b := start(t, 2)
	client := rawClient(t, b)
	for _, bad := range []struct {
		name    string
		request *peerpb.ConnectRequest
	}{
		{"empty message", &peerpb.ConnectRequest{Messages: [][]byte{{}}}},
		{"unknown kind", &peerpb.ConnectRequest{Messages: [][]byte{{200, 1, 2}}}},
		{"cut report", &peerpb.ConnectRequest{Messages: [][]byte{{4, 0xff}}}},
		{"raft garbage", &peerpb.ConnectRequest{Messages: [][]byte{{1, 0xff, 0xff, 0xff}}}},
		{"good before bad", &peerpb.ConnectRequest{Messages: [][]byte{{2, 1}, {0}}}},
		{"second hello", helloTo(b, 1)},
	} {
		t.Run(bad.name, func(t *testing.T) {
			stream := connectRaw(t, client, helloTo(b, 1))
			welcomed(t, stream)
			if err := stream.Send(bad.request); err != nil {
				t.Fatal(err)
			}
			ends(t, stream, codes.InvalidArgument)
		})
	}
	b.logged(t, "stream from peer closed", "malformed message", "unknown kind 200")
	ends(t, connectRaw(t, client, &peerpb.ConnectRequest{Messages: [][]byte{{5}}}), codes.InvalidArgument)
	ends(t, connectRaw(t, client, &peerpb.ConnectRequest{}), codes.InvalidArgument)
	if got := b.messages(1); len(got) != 0 {
		t.Errorf("the handler got %v", got)
	}
	good := connectRaw(t, client, helloTo(b, 1))
	welcomed(t, good)
	if err := good.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := good.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("an orderly end of a stream gives %v", err)
	}
}

// A dialer has HandshakeTimeout to say who it is. That time is over here as
// soon as the stream is open; the connection below has all the time it needs.
func TestSilentDialerIsCutOff(t *testing.T) {
	waits := make(chan time.Duration, 1)
	b := start(t, 2, func(c *Config) {
		c.HandshakeTimeout = time.Hour
		c.afterFunc = func(d time.Duration, f func()) *time.Timer {
			waits <- d
			return time.AfterFunc(0, f)
		}
	})
	_, err := connectRaw(t, rawClient(t, b), nil).Recv()
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), errSilent.Error()) {
		t.Errorf("a silent dialer gets %v", err)
	}
	if got := <-waits; got != time.Hour {
		t.Errorf("the dialer was given %v", got)
	}
}

// authority issues certificates for members on 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// member writes the files of a new member and loads them.
func (a authority) member(t *testing.T) *tls.Config {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "member"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c, err := TLSFiles{
		Cert: write("cert.pem", "CERTIFICATE", der),
		Key:  write("key.pem", "PRIVATE KEY", keyDER),
		CA:   write("ca.pem", "CERTIFICATE", a.cert.Raw),
	}.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func withTLS(c *tls.Config) configure { return func(cfg *Config) { cfg.TLS = c } }

func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	a, b := start(t, 1, withTLS(ours.member(t))), start(t, 2, withTLS(ours.member(t)))
	a.dials(b)
	a.untilUp(t, 2, 1)
	a.Send(2, frame(1, 100_000))
	b.until(t, "message over TLS", func() bool { return len(b.got[1]) == 1 })
	b.untilUp(t, 1, 1) // it learned of a

	// A member that trusts our authority, and is itself certified by another.
	mixed := theirs.member(t)
	mixed.RootCAs = ours.member(t).RootCAs
	for name, stranger := range map[string]*tls.Config{"other authority": theirs.member(t), "other certificate": mixed, "plaintext": nil} {
		t.Run(name, func(t *testing.T) {
			c := start(t, 3, withTLS(stranger))
			c.dials(b)
			c.until(t, "refusal", func() bool { return len(c.downs[1])+len(c.downs[2]) > 0 })
			if c.wasUp(2) || b.knows(3) {
				t.Error("the stranger got in")
			}
			if _, err := Join(t.Context(), b.address, &peerpb.JoinRequest{Identity: c.Identity()}, stranger); status.Code(err) != codes.Unavailable {
				t.Errorf("the stranger's join gives %v", err)
			}
		})
	}
}

func TestTLSMustBeMutual(t *testing.T) {
	c := newAuthority(t).member(t)
	c.ClientAuth = tls.NoClientCert
	err := Config{TLS: c}.Validate()
	if err == nil || !strings.Contains(err.Error(), "RequireAndVerifyClientCert") {
		t.Errorf("a server that lets anybody in is accepted: %v", err)
	}
}

func TestTLSFilesSayWhatIsWrong(t *testing.T) {
	if _, err := (TLSFiles{Cert: "/nowhere/cert.pem", Key: "k", CA: "c"}).Load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
