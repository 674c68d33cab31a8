package server

import (
	"context"
	"slices"
	"strconv"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// historyPart is how many events one message of a history holds at most.
const historyPart = 64

// History implements adminpb.AdminServer.
func (a *admin) History(r *adminpb.HistoryRequest, stream grpc.ServerStreamingServer[adminpb.HistoryResponse]) error {
	n, err := a.server.current()
	if err != nil {
		return toStatus(err)
	}
	first := &adminpb.HistoryResponse{}
	for _, v := range n.Views() {
		first.Views = append(first.Views, viewRecord(v))
	}
	for _, e := range n.Epochs() {
		first.Epochs = append(first.Epochs, epochRecord(e))
	}
	if err := stream.Send(first); err != nil {
		return err
	}
	// Who follows is no reason to keep a server that stops.
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(a.server.lifetime, cancel)()
	after := r.GetAfter()
	for events := n.Events(after); ; {
		for part := range slices.Chunk(events, historyPart) {
			if err := stream.Send(historyOf(part)); err != nil {
				return err
			}
			after = part[len(part)-1].Seq
		}
		if !r.GetFollow() {
			return nil
		}
		if events, err = n.WaitEvents(ctx, after); err != nil {
			if a.server.lifetime.Err() != nil {
				err = concordat.ErrClosed
			}
			return toStatus(err)
		}
	}
}

func historyOf(events []concordat.Event) *adminpb.HistoryResponse {
	out := &adminpb.HistoryResponse{}
	for i := range events {
		e := &events[i]
		out.Events = append(out.Events, &adminpb.Event{
			Seq: e.Seq, UnixNanos: e.Time.UnixNano(), Kind: string(e.Kind), Member: uuidText(e.Member),
			View: strconv.FormatUint(e.View, 10), Text: e.Text,
		})
	}
	return out
}

func viewRecord(v concordat.ViewRecord) *adminpb.ViewRecord {
	return &adminpb.ViewRecord{
		Id: strconv.FormatUint(v.ID, 10), Index: v.Index, Incarnation: uuidText(v.Incarnation),
		Cause: v.Cause, Reason: v.Reason,
	}
}
