package applier_test

import (
	"testing"

	"github.com/concordatdb/concordat/applier"
)

func TestPlaces(t *testing.T) {
	at := func(schema, name, key string) applier.Place {
		return applier.Place{Table: applier.Table{Schema: schema, Name: name}, Key: []byte(key)}
	}
	ordered := []applier.Place{
		{},
		at("a", "b", ""), at("a", "b", "\x00"), at("a", "b", "k"), at("a", "b", "k").After(), at("a", "b", "l"),
		at("a", "b\x01", ""), at("a", "c", ""), at("a\x01", "a", ""), at("b", "a", ""),
	}
	for i, p := range ordered {
		for j, q := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := p.Compare(q); got != want {
				t.Errorf("%v compared with %v is %d, want %d", p, q, got, want)
			}
		}
		if p.IsZero() != (i == 0) {
			t.Errorf("%v is zero: %t", p, p.IsZero())
		}
	}
}
