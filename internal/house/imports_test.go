package house

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// room is one line of the house in docs/DESIGN.md §2. Directories below a
// room belong to it unless they have a line of their own.
type room struct {
	dir string
	// pure code is deterministic, and can be nothing else: what it imports
	// neither waits nor reaches outside.
	pure bool
	// seeded code is deterministic by its own doing: one seed, one trace.
	seeded bool
	// ours are the rooms that this one may import.
	ours []string
	// others are the modules it may import, beside the standard library.
	others []string
}

// anything marks a room that may choose its dependencies: it is linked into
// the command only, never into a program that embeds the library.
const anything = "*"

const (
	raft     = "go.etcd.io/raft/v3"
	pebble   = "github.com/cockroachdb/pebble/v2"
	protobuf = "google.golang.org/protobuf"
	grpc     = "google.golang.org/grpc"
	murmur3  = "github.com/spaolacci/murmur3"
	btree    = "github.com/tidwall/btree"
	linear   = "github.com/anishathalye/porcupine"
	compress = "github.com/klauspost/compress"
)

// core is what a member's state machine is made of.
var core = []string{"gtid", "certifier", "election", "flowcontrol", "applier", "gcs"}

// house lists every room. What is not listed here may not be imported.
var house = []room{
	{dir: "gtid", pure: true},
	{dir: "internal/queue", pure: true},
	{dir: "internal/wire", pure: true, ours: []string{"gtid"}},
	{dir: "internal/statecheck", pure: true, ours: []string{"applier", "gtid", "internal/wire"}},
	{dir: "internal/outcome", pure: true, ours: []string{"gtid", "internal/queue", "internal/wire"}},
	{dir: "certifier", pure: true, ours: []string{"gtid", "internal/queue", "internal/wire"}, others: []string{murmur3}},
	{dir: "election", pure: true, ours: []string{"gtid", "internal/wire"}},
	{dir: "flowcontrol", pure: true, ours: []string{"internal/queue"}},
	{dir: "applier", ours: []string{"gtid"}, others: []string{murmur3}},
	{dir: "applier/schedule", pure: true, ours: []string{"internal/queue"}},
	{dir: "applier/feed", ours: []string{"applier", "applier/schedule", "internal/queue"}},
	{dir: "applier/pebblekv", ours: []string{"applier", "gtid"}, others: []string{pebble}},
	{dir: "gcs", pure: true, ours: []string{"gtid", "internal/queue"}, others: []string{raft, protobuf}},
	{dir: "internal/forced", pure: true, ours: []string{"gcs", "gtid", "internal/wire"}, others: []string{raft}},
	{dir: "internal/giant", pure: true, ours: []string{"internal/wire"}, others: []string{compress}},
	{dir: "gcs/raftlog", ours: []string{"gcs", "gtid"}, others: []string{raft, protobuf, pebble}},
	{
		dir: "gcs/transport", ours: []string{"gcs", "gtid", "proto"},
		others: []string{raft, protobuf, grpc},
	},
	{dir: "proto", others: []string{protobuf, grpc}},
	{
		dir: "internal/replica", pure: true, ours: append([]string{"internal/queue", "internal/outcome", "internal/statecheck", "internal/wire", "internal/consistency", "internal/giant"}, core...),
		others: []string{raft, protobuf},
	},
	{dir: "internal/standing", pure: true},
	{dir: "internal/consistency", pure: true, ours: []string{"gtid"}},
	{dir: "internal/outlook", pure: true, ours: []string{"election", "gcs", "gtid", "internal/standing"}},
	{dir: "internal/contention", pure: true, ours: []string{"gtid", "certifier"}},
	{dir: "internal/running", pure: true, ours: []string{"gtid", "certifier", "internal/queue"}},
	{
		dir:    ".",
		ours:   append([]string{"internal/replica", "internal/standing", "internal/outlook", "internal/forced", "internal/contention", "internal/running", "internal/outcome", "internal/consistency", "gcs/raftlog", "gcs/transport", "applier/pebblekv", "applier/feed", "proto", "internal/statecheck"}, core...),
		others: []string{raft, pebble, protobuf, grpc},
	},
	{dir: "client", ours: []string{"gtid", "proto"}, others: []string{protobuf, grpc}},
	{dir: "internal/server", ours: []string{".", "applier", "election", "gtid", "proto", "internal/consistency", "internal/outlook"}, others: []string{anything}},
	{
		dir: "sim", seeded: true,
		ours:   append([]string{"internal/replica", "internal/queue", "internal/outcome", "internal/forced", "internal/consistency", "applier/schedule", "internal/statecheck"}, core...),
		others: []string{raft, protobuf, btree, linear},
	},
	{
		dir: "bench", ours: []string{".", "client", "internal/server", "proto", "gtid", "certifier", "applier", "applier/pebblekv"},
		others: []string{anything},
	},
	{
		dir:    "cmd",
		ours:   []string{".", "client", "internal/server", "sim", "bench", "proto", "gtid", "applier"},
		others: []string{anything},
	},
	{dir: "examples", ours: []string{".", "applier", "gtid"}, others: []string{anything}},
	{dir: "internal/house"},
}

// roomOf returns the room of a directory. A directory whose name ends in
// "test" helps tests of the room above it: it may import whatever that room
// may, the room itself and any module, and is pure in no room.
func roomOf(dir string) (room, bool) {
	if support(dir) {
		above, ok := roomOf(path.Dir(dir))
		return room{
			dir:    dir,
			ours:   append([]string{above.dir}, above.ours...),
			others: []string{anything},
		}, ok
	}
	for d := dir; ; d = path.Dir(d) {
		i := slices.IndexFunc(house, func(r room) bool { return r.dir == d })
		if i >= 0 && (d != "." || dir == ".") {
			return house[i], true
		}
		if d == "." {
			return room{}, false
		}
	}
}

func support(dir string) bool {
	return strings.HasSuffix(path.Base(dir), "test")
}

// importLaw checks every import of code that is not a test against the house.
func importLaw(t *tree) []finding {
	var found []finding
	for _, s := range t.sources {
		if s.test || t.foreign(s.dir()) {
			continue
		}
		r, ok := roomOf(s.dir())
		if !ok {
			found = append(found, t.find(s.syntax.Package,
				"directory %s is no room of the house: give it a line in internal/house/imports_test.go and in docs/DESIGN.md",
				s.dir()))
			continue
		}
		for _, spec := range s.syntax.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			if why := r.refuses(p); why != "" {
				found = append(found, t.find(spec.Pos(), "%s imports %s: %s", name(r.dir), p, why))
			}
		}
	}
	return found
}

func name(dir string) string {
	if dir == "." {
		return path.Base(module)
	}
	return dir
}

// refuses returns why the room may not import p, "" if it may.
func (r room) refuses(p string) string {
	if !within(p, module) {
		return r.refusesOther(p)
	}
	dir := path.Clean("./" + strings.TrimPrefix(p, module))
	if support(dir) {
		if support(r.dir) {
			return ""
		}
		return "it helps tests, only tests may import it"
	}
	if to, ok := roomOf(dir); ok && (to.dir == r.dir || slices.Contains(r.ours, to.dir)) {
		return ""
	}
	return "no arrow of docs/DESIGN.md §2 leads there"
}

func (r room) refusesOther(p string) string {
	first, _, _ := strings.Cut(p, "/")
	if !strings.Contains(first, ".") {
		if r.pure && impure(p) {
			return "a deterministic package may not"
		}
		return ""
	}
	for _, o := range r.others {
		if o == anything || within(p, o) {
			return ""
		}
	}
	return "this room may import no such module"
}

// impure reports whether a package of the standard library waits, reads a
// clock, draws a number, or reaches outside of the process. log/slog is none
// of them: a logger is handed in, and what it does never comes back.
func impure(p string) bool {
	switch p {
	case "context", "crypto/rand", "log", "C", "unsafe":
		return true
	}
	for _, d := range []string{
		"sync", "net", "os", "math/rand", "runtime", "syscall", "io/ioutil", "testing",
		"database/sql", "plugin", "expvar", "embed",
	} {
		if within(p, d) {
			return true
		}
	}
	return false
}
