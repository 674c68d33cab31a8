package gcs

import "testing"

// What a view's history says of a forced one counts its members in good English.
func TestForcedText(t *testing.T) {
	c := Change{Kind: Forced, Incarnation: uuid(200), Members: []Member{online(1)}}
	if got, want := c.String(), "1 member forced in incarnation "+uuid(200).String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c.Members = append(c.Members, online(2))
	if got, want := c.String(), "2 members forced in incarnation "+uuid(200).String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
