package server

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	accounts      = concordat.Table{Schema: "bank", Name: "accounts"}
	accountsProto = &kvpb.Table{Schema: "bank", Name: "accounts"}
)

// testContext bounds a test that would otherwise hang.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// openNode opens a group of one.
func openNode(t testing.TB, change ...func(*concordat.Config)) *concordat.Node {
	t.Helper()
	cfg := concordat.Config{
		Group: "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50", Dir: t.TempDir(), Listen: "127.0.0.1:0", Bootstrap: true,
		TickInterval: 5 * time.Millisecond, // alone, it has nobody to be too hasty with
	}
	for _, c := range change {
		c(&cfg)
	}
	n, err := concordat.Open(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// start serves n, if it is not nil, and returns a client.
func start(t testing.TB, n *concordat.Node, cfg Config) (*Server, *Client) {
	t.Helper()
	cfg.Listener = listen(t)
	s := Start(cfg)
	t.Cleanup(func() { s.Stop(t.Context()) }) // the test's context has ended: at once
	if n != nil {
		s.SetNode(n)
	}
	return s, dial(t, cfg.Listener)
}

func dial(t testing.TB, l net.Listener) *Client {
	t.Helper()
	c, err := Dial(l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// plain is a connection whose errors stay as gRPC has them.
func plain(t testing.TB, l net.Listener) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func put(t testing.TB, c *Client, key, value string) string {
	t.Helper()
	r, err := c.Put(testContext(t), &kvpb.PutRequest{Table: accountsProto, Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetGtid()
}

func putOp(key, value string) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Put{Put: &kvpb.PutRequest{Table: accountsProto, Key: []byte(key), Value: []byte(value)}}}
}

func getOp(key string) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Get{Get: &kvpb.GetRequest{Table: accountsProto, Key: []byte(key)}}}
}

func deleteOp(key string) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Delete{Delete: &kvpb.DeleteRequest{Table: accountsProto, Key: []byte(key)}}}
}

func expectOp(key, value string) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Expect{Expect: &kvpb.Expectation{Table: accountsProto, Key: []byte(key), Value: []byte(value)}}}
}

func absentOp(key string) *kvpb.Op {
	return &kvpb.Op{Op: &kvpb.Op_Expect{Expect: &kvpb.Expectation{Table: accountsProto, Key: []byte(key), Absent: true}}}
}

// contextFor is a context of a call that is to be short.
func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(testContext(t), d)
}
