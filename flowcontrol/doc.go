// Package flowcontrol decides how much each member may write, so that no member
// falls further behind than the group has agreed to.
//
// It owns what a member tells of its work (a [Sample], counted by a [Meter]), the
// two laws that make a rate of everybody's samples (a [Controller]), and who may
// begin when the rate is less than what is asked for (an [Admission]).
//
// [ModeAdaptive] measures what each member's engine can do while it has work,
// which is a capacity and does not fall because the group was throttled. A member
// with a backlog limits the group to what it can do, a little more below the target
// and a little less above it, so that the backlog settles at the target and the
// engine is never idle. While nobody is behind there is no limit at all, and
// nothing is counted for one. [ModeQuota] is the formula of Group Replication.
//
// It promises to be a function of what it was given, in that order, and that
// whoever waits is let in: within a class in the order in which they came, between
// classes by their weights, and that what waits is bounded. Members decide each for
// itself, by the newest samples that they have heard; only the [Settings] are
// agreed.
//
// It must never know what a transaction does, how samples travel, or what time it
// is: time is told as a distance from a beginning of the caller's choice.
package flowcontrol
