package transport

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// counter is a Handler that counts, and tells when the count reaches a goal.
type counter struct {
	*recorder
	goal    int64
	count   atomic.Int64
	reached chan struct{}
	moved   chan struct{} // holds a token after every batch
}

func (c *counter) Receive(_ context.Context, _ uint64, msgs []gcs.Message) {
	count := c.count.Add(int64(len(msgs)))
	select {
	case c.moved <- struct{}{}:
	default:
	}
	if count == c.goal {
		close(c.reached)
	}
}

// BenchmarkSend measures one way of messages between two members over loopback
// TCP, from Send to Receive, as fast as they go.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{128, 4096} {
		app := &gcs.Message{Kind: gcs.MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(7)),
			Entries: []*raftpb.Entry{{Index: new(uint64(9)), Term: new(uint64(7)), Data: make([]byte, size)}},
		}}
		for _, kind := range []struct {
			name string
			m    *gcs.Message
		}{{"frame", frame(0, size)}, {"append", app}} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, size), func(b *testing.B) { benchmarkSend(b, kind.m, size) })
		}
	}
}

func benchmarkSend(b *testing.B, m *gcs.Message, size int) {
	c := &counter{recorder: newRecorder(), goal: int64(b.N), reached: make(chan struct{}), moved: make(chan struct{}, 1)}
	sender := start(b, 1)
	receiver := start(b, 2, func(cfg *Config) { cfg.Handler = c })
	sender.dials(receiver)
	sender.untilUp(b, 2, 1)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	// As many messages under way as at a busy member: more would measure the
	// memory of the machine.
	const underWay = 1024
	for i := range int64(b.N) {
		for i-c.count.Load() >= underWay {
			<-c.moved
		}
		if !sender.Send(2, m) {
			b.Fatalf("message %d was dropped", i)
		}
	}
	<-c.reached
}

// BenchmarkPingPong measures the way of one message there and back, with
// nothing else going on: the latency that the transport adds.
func BenchmarkPingPong(b *testing.B) {
	c := &counter{recorder: newRecorder(), reached: make(chan struct{}), moved: make(chan struct{}, 1)}
	here := start(b, 1, func(cfg *Config) { cfg.Handler, cfg.Logger = c, nil })
	echo := &echo{recorder: newRecorder()}
	there := start(b, 2, func(cfg *Config) { cfg.Handler = echo })
	echo.send = there.Send
	here.dials(there)
	there.dials(here)
	echo.untilUp(b, 1, 1)
	c.untilUp(b, 2, 1)
	c.goal = -1
	m := frame(0, 128)
	b.ReportAllocs()
	for b.Loop() {
		here.Send(2, m)
		<-c.moved
	}
}

// echo is a Handler that sends everything back.
type echo struct {
	*recorder
	send func(to uint64, m *gcs.Message) bool
}

func (e *echo) Receive(_ context.Context, from uint64, msgs []gcs.Message) {
	for i := range msgs {
		e.send(from, &msgs[i])
	}
}
