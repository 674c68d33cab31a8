package concordat_test

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

const otherUUID = "0d2f7a52-6a1c-4f43-8a41-9d4a2f1f0b11"

// Everything that is wrong is said at once, by name.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	bad := concordat.Config{
		Group: "g", Listen: "here", Advertise: "there", Seeds: []string{"ok:1", "elsewhere"}, Bootstrap: true,
		Member: "m", MemberWeight: 101, CacheBytes: -1,
		MaxPendingCommits: -1, Founding: concordat.GroupSettings{HistoryItems: -1}, CheckpointBytes: -1,
		ApplyQueueBytes: -1, TickInterval: -1, ElectionTicks: -1,
		MemberSuspectTimeout: -1, UnreachableMajorityTimeout: -1, AutoRejoinInterval: -1, LogStallTimeout: -1,
		FoundingMode: 3, Consistency: 6, FailoverTimeout: -1, ClientAddress: "nowhere",
		CloneRate: -1, ExitStateAction: "EXPLODE", IPAllowlist: []string{"10.0.0.0/8", "somewhere"}, Replaces: "r",
	}
	err := bad.Validate()
	if !errors.Is(err, concordat.ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	names := []string{
		`Group "g"`, "Dir", `Listen "here"`, `Advertise "there"`, `"elsewhere"`, "Bootstrap", `Member "m"`, "MemberWeight 101",
		"CacheBytes", "MaxPendingCommits", "HistoryItems", "CheckpointBytes",
		"ApplyQueueBytes", "TickInterval", "ElectionTicks",
		"MemberSuspectTimeout", "UnreachableMajorityTimeout", "AutoRejoinInterval", "LogStallTimeout",
		"FoundingMode 3", "Consistency 6", "FailoverTimeout is negative", `ClientAddress "nowhere"`,
		"CloneRate", `ExitStateAction "EXPLODE"`, `IPAllowlist: "somewhere"`, `Replaces "r"`, "nobody to replace",
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("nothing about %s in: %v", name, err)
		}
	}
	if got := strings.Count(err.Error(), concordat.ErrInvalid.Error()); got != len(names) {
		t.Errorf("%d complaints, want %d: %v", got, len(names), err)
	}
	if n, opened := concordat.Open(t.Context(), bad); opened == nil || opened.Error() != err.Error() {
		t.Errorf("open: %v, %v", n, opened)
	}
	large := testConfig(t)
	large.Founding.TransactionSizeLimit = 1 << 31
	if err := large.Validate(); !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), "TransactionSizeLimit") {
		t.Errorf("a limit beyond what can be: %v", err)
	}
	for _, listen := range []string{":7400", "0.0.0.0:7400", "[::]:7400"} {
		cfg := founder(t)
		cfg.Listen = listen
		if err := cfg.Validate(); !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), "set Advertise") {
			t.Errorf("listening on %s, the others are told: %v", listen, err)
		}
		cfg.Advertise = "10.0.0.1:7400"
		if err := cfg.Validate(); err != nil {
			t.Errorf("listening on %s with an address to tell: %v", listen, err)
		}
	}
	hasty := founder(t)
	hasty.FailoverTimeout = 4*hasty.TickInterval - time.Nanosecond
	if err := hasty.Validate(); err != nil {
		t.Errorf("a failover after four ticks: %v", err)
	}
	hasty.FailoverTimeout = 3 * hasty.TickInterval
	if err := hasty.Validate(); !errors.Is(err, concordat.ErrInvalid) || !strings.Contains(err.Error(), "FailoverTimeout 60ms") {
		t.Errorf("a failover after three ticks: %v", err)
	}
	if err := founder(t).Validate(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}

// mustRefuse checks that a member does not open, and what it says.
func mustRefuse(t *testing.T, cfg concordat.Config, want error, texts ...string) {
	t.Helper()
	n, err := concordat.Open(testContext(t), cfg)
	if err == nil {
		_ = n.Close()
		t.Fatal("the member opened")
	}
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("nothing about %q in: %v", text, err)
		}
	}
}

func TestOpenRefusesDirectory(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	n, cfg := g.nodes[0], g.cfgs[0]
	member := n.Status().Member.String()
	inUse := testConfig(t)
	inUse.Dir = cfg.Dir
	mustRefuse(t, inUse, raftlog.ErrInUse, cfg.Dir)
	mustRefuse(t, inUse, concordat.ErrDirectory)
	mustPut(t, n, "k", "v")
	mustClose(t, n)

	back := again(n, cfg)
	for _, c := range []struct {
		name   string
		change func(*concordat.Config)
		texts  []string
	}{
		{"of another group", func(c *concordat.Config) { c.Group = otherUUID }, []string{testGroup, otherUUID}},
		{"of another member", func(c *concordat.Config) { c.Member = otherUUID }, []string{member, otherUUID}},
		{"that is not new", func(c *concordat.Config) { c.Bootstrap = true }, []string{member, "without Bootstrap"}},
		{"that is a file", func(c *concordat.Config) {
			c.Dir = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(c.Dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"that is new, without anybody to join", func(c *concordat.Config) { c.Dir = t.TempDir() }, []string{"Seeds", "Bootstrap"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := back
			c.change(&cfg)
			mustRefuse(t, cfg, concordat.ErrDirectory, append(c.texts, cfg.Dir)...)
		})
	}
	// None of it has done the directory any harm.
	if got := contents(t, mustOpen(t, back))["k"]; got != "v" {
		t.Errorf("k reads %q", got)
	}
}

func TestOpenRefusesDataWithoutLog(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	mustPut(t, g.nodes[0], "k", "v")
	mustClose(t, g.nodes[0])
	cfg := g.cfgs[0]
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "log")); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, cfg, concordat.ErrDirectory, cfg.Dir, "no log")
	cfg.Bootstrap, cfg.Seeds = false, []string{"127.0.0.1:1"}
	mustRefuse(t, cfg, concordat.ErrDirectory, cfg.Dir, "no log")
}

// A log without its data, on the other hand, has all of it.
func TestOpenRebuildsDataFromLog(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	mustPut(t, g.nodes[0], "k", "v")
	mustClose(t, g.nodes[0])
	if err := os.RemoveAll(filepath.Join(g.cfgs[0].Dir, "data")); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, mustOpen(t, again(g.nodes[0], g.cfgs[0])))["k"]; got != "v" {
		t.Errorf("k reads %q", got)
	}
}

func TestOpenPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := founder(t)
	cfg.Listen = l.Addr().String()
	_, err = concordat.Open(testContext(t), cfg)
	if _, ok := errors.AsType[*net.OpError](err); !ok || !strings.Contains(err.Error(), cfg.Listen) {
		t.Errorf("open: %v, want an error that names %s", err, cfg.Listen)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// A seed that is not there may come yet; only the context ends the asking.
func TestJoinUnreachableSeed(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Seeds = []string{freeAddress(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := concordat.Open(ctx, cfg)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), cfg.Seeds[0]) {
		t.Errorf("open: %v, want the context's end and the seed's address", err)
	}
	// The directory is still that of a member that has yet to join.
	cfg.Seeds = []string{openGroup(t, 1).nodes[0].Address()}
	mustPut(t, mustOpen(t, cfg), "joined", "1")
}

func TestJoinRefused(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	stranger := joiner(t, g.nodes[0])
	stranger.Group = otherUUID
	mustRefuse(t, stranger, concordat.ErrJoinRefused, testGroup, otherUUID)
	twin := joiner(t, g.nodes[0])
	twin.Member = g.nodes[1].Status().Member.String()
	mustRefuse(t, twin, concordat.ErrJoinRefused, twin.Member, g.nodes[1].Address())
	neighbour := joiner(t, g.nodes[0])
	neighbour.Advertise = g.nodes[1].Address()
	mustRefuse(t, neighbour, concordat.ErrJoinRefused, twin.Member, "address")
	if got := len(members(g.nodes[0])); got != 2 {
		t.Errorf("%d members, want 2", got)
	}
	mustPut(t, g.nodes[1], "unharmed", "1")
	mustAgree(t, g.nodes...)
}

// damage changes files of a closed member and opens it again: it comes back
// with all that was committed, or not at all and says why.
func damage(t *testing.T, part string, change func(path string, content []byte) []byte) {
	t.Helper()
	g := openGroup(t, 1)
	for _, k := range []string{"a", "b", "c"} {
		mustPut(t, g.nodes[0], k, strings.Repeat("v", 100))
	}
	mustClose(t, g.nodes[0])
	dir := filepath.Join(g.cfgs[0].Dir, part)
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "LOCK" {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("files in %s: %v, %v", dir, files, err)
	}
	for _, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(whole) == 0 {
			continue
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(g.cfgs[0].Dir)); err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(g.cfgs[0].Dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, rel), change(path, whole), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := again(g.nodes[0], g.cfgs[0])
		cfg.Dir = copied
		mustSurvive(t, rel, cfg)
	}
}

func mustSurvive(t *testing.T, what string, cfg concordat.Config) {
	t.Helper()
	n, err := concordat.Open(testContext(t), cfg)
	if err != nil {
		if !errors.Is(err, concordat.ErrDirectory) && !errors.Is(err, concordat.ErrFailed) {
			t.Errorf("%s: %v, want an error of the directory", what, err)
		}
		return
	}
	defer func() { _ = n.Close() }()
	if found := contents(t, n); len(found) != 3 {
		t.Errorf("%s: opened with %d keys of 3", what, len(found))
	}
}

func TestOpenDamagedFiles(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"log", "data"} {
		t.Run(part+" flipped", func(t *testing.T) {
			t.Parallel()
			damage(t, part, func(_ string, b []byte) []byte {
				b[len(b)/2] ^= 0x10
				return b
			})
		})
		t.Run(part+" truncated", func(t *testing.T) {
			t.Parallel()
			damage(t, part, func(_ string, b []byte) []byte { return b[:len(b)/2] })
		})
		t.Run(part+" gone", func(t *testing.T) {
			t.Parallel()
			damage(t, part, func(string, []byte) []byte { return nil })
		})
	}
}

// overwrite sets one key in a Pebble store of a closed member.
func overwrite(t *testing.T, dir string, key, value []byte) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set(key, value, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Formats of a version to come are recognised and left alone.
func TestOpenRefusesNewerFormat(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"log", "data"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			g := openGroup(t, 1)
			mustClose(t, g.nodes[0])
			want := pebblekv.ErrFormat
			if part == "log" {
				want = raftlog.ErrNewerFormat
				key, version := []byte{1}, []byte{99, 0, 0, 0}
				crc := crc32.Checksum(append(key, version...), crc32.MakeTable(crc32.Castagnoli))
				value := append(binary.LittleEndian.AppendUint32(nil, crc), version...)
				overwrite(t, filepath.Join(g.cfgs[0].Dir, part), key, value)
			} else {
				states, err := filepath.Glob(filepath.Join(g.cfgs[0].Dir, part, "state-*"))
				if err != nil || len(states) != 1 {
					t.Fatalf("states %v, %v", states, err)
				}
				overwrite(t, states[0], []byte("\x00format"), []byte{0, 0, 0, 99})
			}
			mustRefuse(t, again(g.nodes[0], g.cfgs[0]), want, g.cfgs[0].Dir, "99")
			mustRefuse(t, again(g.nodes[0], g.cfgs[0]), concordat.ErrDirectory)
		})
	}
}
