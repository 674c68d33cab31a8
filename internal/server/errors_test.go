package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// lostWrite is what becomes of a write without an answer.
var lostWrite = unanswered(&kvpb.PutRequest{})

func uuid(t *testing.T, text string) gtid.UUID {
	t.Helper()
	u, err := gtid.ParseUUID(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Every error arrives as what it was sent.
func TestErrorsTravel(t *testing.T) {
	for _, k := range kinds {
		sent := fmt.Errorf("%w: the reason", k.err)
		over := toStatus(sent)
		if status.Code(over) != k.status {
			t.Errorf("%v: status %v, want %v", k.err, status.Code(over), k.status)
		}
		got := fromStatus(over, lostWrite)
		for _, other := range kinds {
			if errors.Is(got, other.err) != (k.err == other.err) {
				t.Errorf("%v arrives as %v", k.err, got)
			}
		}
	}
}

func TestExpectationTravels(t *testing.T) {
	expectation := &ExpectationError{Table: accounts, Key: []byte("k")}
	wrapped := fmt.Errorf("operation 3: %w", expectation)
	if diff := cmp.Diff(error(expectation), fromStatus(toStatus(wrapped), lostWrite)); diff != "" {
		t.Error(diff)
	}
}

func TestOutcomeUnknownTravels(t *testing.T) {
	sent := &concordat.OutcomeUnknownError{ID: uuid(t, "00000000-0000-4000-8000-000000000009"), Cause: context.Canceled}
	got, ok := errors.AsType[*concordat.OutcomeUnknownError](fromStatus(toStatus(sent), lostWrite))
	if !ok || got.ID != sent.ID || got.Error() != sent.Error() {
		t.Errorf("%v, want %v", got, sent)
	}
}

func TestErrorsWithoutDetail(t *testing.T) {
	for _, c := range []struct {
		code  codes.Code
		wrote bool
		want  error
	}{
		{codes.Unavailable, false, concordat.ErrNotOnline},
		{codes.Unavailable, true, concordat.ErrOutcomeUnknown},
		{codes.Canceled, false, context.Canceled},
		{codes.Canceled, true, concordat.ErrOutcomeUnknown},
		{codes.DeadlineExceeded, false, context.DeadlineExceeded},
		{codes.DeadlineExceeded, true, context.DeadlineExceeded}, // as the cause
		{codes.DeadlineExceeded, true, concordat.ErrOutcomeUnknown},
		{codes.Internal, true, concordat.ErrOutcomeUnknown},
		{codes.ResourceExhausted, true, concordat.ErrTooLarge},
	} {
		lost := lostWrite
		if !c.wrote {
			lost = nil
		}
		if err := fromStatus(status.Error(c.code, "text"), lost); !errors.Is(err, c.want) {
			t.Errorf("%v, wrote %v: %v, want %v", c.code, c.wrote, err, c.want)
		}
	}
	for _, code := range []codes.Code{codes.Unimplemented, codes.PermissionDenied, codes.InvalidArgument} {
		if err := fromStatus(status.Error(code, "text"), lostWrite); errors.Is(err, concordat.ErrOutcomeUnknown) {
			t.Errorf("%v, which is said before anything happens: %v", code, err)
		}
	}
	if got := toStatus(nil); got != nil {
		t.Errorf("no error became %v", got)
	}
	if got := status.Code(toStatus(context.DeadlineExceeded)); got != codes.DeadlineExceeded {
		t.Errorf("a deadline became %v", got)
	}
}

// silentKV takes writes and never answers.
type silentKV struct {
	kvpb.UnimplementedKVServer
	came chan struct{}
}

func (s *silentKV) Put(ctx context.Context, _ *kvpb.PutRequest) (*kvpb.PutResponse, error) {
	s.came <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A write that reached a server which then vanished may have happened; one
// that reached none did not.
func TestWriteWithoutAnswer(t *testing.T) {
	l := listen(t)
	silent := &silentKV{came: make(chan struct{}, 1)}
	s := grpc.NewServer()
	kvpb.RegisterKVServer(s, silent)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	c := dial(t, l)
	request := &kvpb.PutRequest{Table: accountsProto, Key: []byte("k")}

	short, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	_, err := c.Put(short, request)
	if !errors.Is(err, concordat.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	<-silent.came

	failed := make(chan error, 1)
	go func() {
		_, err := c.Put(testContext(t), request)
		failed <- err
	}()
	<-silent.came
	s.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("after the connection broke: %v", err)
	}
	_, err = c.Put(testContext(t), request)
	if !errors.Is(err, concordat.ErrNotOnline) || errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("without a server: %v", err)
	}
}
