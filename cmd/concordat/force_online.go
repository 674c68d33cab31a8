package main

import (
	"context"
	"fmt"
	"time"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// How often force-members looks whether the members are ONLINE, and for how long
// if no timeout says so: it has done what it should.
const (
	onlineInterval = 100 * time.Millisecond
	onlinePatience = 30 * time.Second
)

// unknownState is said of a member of which the node that is asked knows nothing
// in the new incarnation yet.
const unknownState = "UNKNOWN"

// awaitOnline waits until the survivors are ONLINE, and returns in which state
// each is in the eyes of the node that is asked, in the order of the report.
func awaitOnline(ctx context.Context, c *server.Client, r *adminpb.ForceReport) []string {
	ctx, cancel := context.WithTimeout(ctx, onlinePatience)
	defer cancel()
	ticker := time.NewTicker(onlineInterval)
	defer ticker.Stop()
	states := survivorStates(r, nil)
	for {
		if s, err := c.Status(ctx, &adminpb.StatusRequest{}); err == nil {
			states = survivorStates(r, s)
		}
		if len(notOnline(r, states)) == 0 {
			return states
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return states
		}
	}
}

func survivorStates(r *adminpb.ForceReport, s *adminpb.StatusResponse) []string {
	states := make([]string, len(r.GetSurvivors()))
	for i, survivor := range r.GetSurvivors() {
		states[i] = unknownState
		if s.GetIncarnation() != r.GetView().GetIncarnation() {
			continue
		}
		for _, m := range s.GetView().GetMembers() {
			if m.GetUuid() == survivor.GetMember() {
				states[i] = stateName(stateOfSurvivor(s, m))
			}
		}
	}
	return states
}

// stateOfSurvivor is the state of a member in the new incarnation. The view says
// ONLINE of all of them from its beginning on: what counts is that a member has
// told that it has that view, and of the one that answers, what it says itself.
func stateOfSurvivor(s *adminpb.StatusResponse, m *adminpb.Member) adminpb.MemberState {
	switch {
	case m.GetUuid() == s.GetMember():
		return s.GetState()
	case m.GetState() == adminpb.MemberState_MEMBER_STATE_ONLINE && m.GetDelivered() < s.GetView().GetIndex():
		return adminpb.MemberState_MEMBER_STATE_RECOVERING
	}
	return m.GetState()
}

// notOnline says of which survivors it is not known that they are ONLINE, a
// sentence each.
func notOnline(r *adminpb.ForceReport, states []string) (out []string) {
	online := stateName(adminpb.MemberState_MEMBER_STATE_ONLINE)
	for i, s := range r.GetSurvivors() {
		if states[i] != online {
			out = append(out, fmt.Sprintf("%s (%s) is not ONLINE yet, its state is %s: see concordat status", s.GetMember(), s.GetAddress(), states[i]))
		}
	}
	return out
}
