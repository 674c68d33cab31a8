package main

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// none is an environment without variables.
func none(string) (string, bool) { return "", false }

// resolveArgs is what concordat node does with its arguments.
func resolveArgs(t *testing.T, file string, getenv func(string) (string, bool), args ...string) (nodeSettings, error) {
	t.Helper()
	parsed := defaultSettings()
	flags := parsed.flags()
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return resolve(flags, file, getenv)
}

func TestSettingsPrecedence(t *testing.T) {
	file := writeFile(t, `
group = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"
dir = "/file"
weight = 10
seeds = ["a:1", "b:2"]
cache-size = "8MiB"
tick-interval = "20ms"
log-level = "warn"
`)
	environment := map[string]string{
		"CONCORDAT_DIR": "/environment", "CONCORDAT_WEIGHT": "20", "CONCORDAT_SEEDS": "c:3,d:4",
		"CONCORDAT_CHECKPOINT_SIZE": "1GiB", "CONCORDAT_CONSISTENCY": "before-and-after", "CONCORDAT_JSON": "true", "CONCORDAT_SERVICE_HOST": "not a setting",
	}
	getenv := func(name string) (string, bool) { v, ok := environment[name]; return v, ok }
	got, err := resolveArgs(t, file, getenv, "--weight", "30", "--seeds", "e:5", "--seeds", "f:6", "--leave-timeout", "1m")
	if err != nil {
		t.Fatal(err)
	}
	wanted := defaultSettings()
	wanted.Group = testGroup
	wanted.Dir = "/environment"
	wanted.Weight = 30
	wanted.Seeds = []string{"e:5", "f:6"}
	wanted.CacheSize = 8 << 20
	wanted.CheckpointSize = 1 << 30
	wanted.Consistency = level(concordat.BeforeAndAfter)
	wanted.TickInterval = 20e6
	wanted.LeaveTimeout = 60e9
	wanted.LogLevel = "warn"
	wanted.JSON = true
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
	if got.config().MemberWeight != 30 {
		t.Errorf("MemberWeight %d", got.config().MemberWeight)
	}
}

// What the library can be told, a node can be told, but for what is Go.
func TestEachConfigFieldIsASetting(t *testing.T) {
	s := nodeSettings{}
	for _, f := range reflect.ValueOf(&s).Elem().Fields() {
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"x"}))
		case reflect.Uint8, reflect.Uint64:
			f.SetUint(1)
		default:
			f.SetInt(1)
		}
	}
	for field, value := range reflect.ValueOf(s.config()).Fields() {
		switch field.Name {
		case "Engine", "TLS", "Logger", "OnExit":
		default:
			if value.IsZero() && field.IsExported() {
				t.Errorf("nothing sets Config.%s", field.Name)
			}
		}
	}
}

// The mode that the help calls the default is the library's.
func TestDefaultMode(t *testing.T) {
	s := defaultSettings()
	s.Group, s.Dir, s.Bootstrap, s.Listen, s.ClientListen = testGroup, t.TempDir(), true, loopback, loopback
	node, err := concordat.Open(testContext(t), s.config())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	for flag, mode := range map[string]concordat.Mode{"single-primary": concordat.SinglePrimary, "multi-primary": concordat.MultiPrimary} {
		if said := strings.Contains(s.flags().Lookup(flag).Usage, "(default)"); said != (node.Status().Mode == mode) {
			t.Errorf("a group is founded in %s mode, and --%s is said to be the default %t", node.Status().Mode, flag, said)
		}
	}
}

// Clients are sent where a node listens for them, or to its host if it listens
// everywhere.
func TestClientAddress(t *testing.T) {
	for _, c := range []struct{ listens, members, want string }{
		{"10.0.0.1:7500", "10.0.0.2:7400", "10.0.0.1:7500"},
		{"0.0.0.0:7500", "10.0.0.2:7400", "10.0.0.2:7500"},
		{"[::]:7500", "db1.example:7400", "db1.example:7500"},
		{"[::1]:7500", "10.0.0.2:7400", "[::1]:7500"},
		{"[::]:7500", "nowhere", "[::]:7500"},
	} {
		if got := clientAddress(c.listens, c.members); got != c.want {
			t.Errorf("listening at %s, and for members at %s: %s, want %s", c.listens, c.members, got, c.want)
		}
	}
}

// A number that is given is not the library's zero, which means the default.
func TestZeroIsNoDefault(t *testing.T) {
	s := defaultSettings()
	s.MemberExpelTimeout, s.AutoRejoinTries = 0, 0
	if c := s.config(); c.MemberExpelTimeout >= 0 || c.AutoRejoinTries >= 0 {
		t.Errorf("MemberExpelTimeout %v and AutoRejoinTries %d mean the defaults or more", c.MemberExpelTimeout, c.AutoRejoinTries)
	}
}

// The words of exit-state-action may be written as those of other settings.
func TestExitStateActionWords(t *testing.T) {
	for text, want := range map[string]concordat.ExitStateAction{
		"READ_ONLY": concordat.ReadOnly, "offline-mode": concordat.OfflineMode, "Abort": concordat.Abort,
	} {
		s := defaultSettings()
		s.ExitStateAction = text
		if got := s.config().ExitStateAction; got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// A member of weight 0 is not one of the default weight.
func TestWeightZero(t *testing.T) {
	s := defaultSettings()
	s.Weight = 0
	if w := s.config().MemberWeight; w >= 0 {
		t.Errorf("MemberWeight %d means the default or more", w)
	}
}

func TestBadSettings(t *testing.T) {
	const good = "group = \"" + testGroup + "\"\ndir = \"d\"\n"
	for _, c := range []struct {
		name, file string
		args       []string
		want       []string // in the error
	}{
		{"unknown key", good + "listn = \"x:1\"\n", nil, []string{"node.toml:3:1", `"listn"`}},
		{"unknown keys", good + "a = 1\n[b]\nc = 2\n", nil, []string{"node.toml:3:1", "node.toml:4:2", `"b"`}},
		{"syntax", good + "weight = = 3\n", nil, []string{"node.toml:3:10"}},
		{"type", good + "weight = \"heavy\"\n", nil, []string{"node.toml:3:10"}},
		{"twice", good + "dir = \"e\"\n", nil, []string{"node.toml:3"}},
		{"duration", good + "tick-interval = \"50\"\n", nil, []string{"node.toml:3:17", "500ms"}},
		{"size", good + "cache-size = \"64MB\"\n", nil, []string{"node.toml:3:14", "64MiB"}},
		{"no group", "dir = \"d\"\n", nil, []string{"Group", "UUID"}},
		{"no dir", "group = \"" + testGroup + "\"\n", nil, []string{"Dir is empty"}},
		{"both modes", good, []string{"--single-primary", "--multi-primary"}, []string{"exclude each other"}},
		{"level", good + "consistency = \"strong\"\n", nil, []string{"node.toml:3:15", "BEFORE_AND_AFTER"}},
		{"hasty", good, []string{"--failover-timeout", "100ms"}, []string{"FailoverTimeout 100ms is shorter than 4 ticks"}},
		{"client address", good, []string{"--client-address", "here"}, []string{"ClientAddress", "host:port"}},
		{"bootstrap and seeds", good, []string{"--bootstrap", "--seeds", "a:1"}, []string{"choose"}},
		{"seed", good, []string{"--seeds", "nowhere"}, []string{`"nowhere" is not host:port`}},
		{"weight", good + "weight = 101\n", nil, []string{"101"}},
		{"negative weight", good, []string{"--weight=-1"}, []string{"-1 is negative"}},
		{"tries", good, []string{"--autorejoin-tries=-1"}, []string{"-1 is negative"}},
		{"exit action", good + "exit-state-action = \"explode\"\n", nil, []string{"EXPLODE", "OFFLINE_MODE"}},
		{"allowlist", good, []string{"--ip-allowlist", "10.0.0.0/8,everybody"}, []string{`"everybody"`, "10.0.0.0/8"}},
		{"replaces", good, []string{"--replaces", "nobody"}, []string{`"nobody"`}},
		{"half of TLS", good + "tls-cert = \"c\"\n", nil, []string{"tls-cert, tls-key and tls-ca"}},
		{"client CA alone", good + "client-tls-ca = \"c\"\n", nil, []string{"client-tls-ca"}},
		{"on-sigterm", good + "on-sigterm = \"run\"\n", nil, []string{`"run"`, "leave or stop"}},
		{"log", good + "log-level = \"loud\"\nlog-format = \"xml\"\n", nil, []string{`"loud"`, `"xml"`}},
		{"one address", good, []string{"--listen", "h:1", "--client-listen", "h:1"}, []string{"both h:1"}},
		{"transaction size", good, []string{"--transaction-size-limit", "2GiB"}, []string{"TransactionSizeLimit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := resolveArgs(t, writeFile(t, c.file), none, c.args...)
			if exitCode(err) != exitUsage {
				t.Fatalf("exit code %d, want %d: %v", exitCode(err), exitUsage, err)
			}
			for _, text := range c.want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%v\nhas no %q", err, text)
				}
			}
		})
	}
}

func TestBadEnvironment(t *testing.T) {
	_, err := resolveArgs(t, "", func(name string) (string, bool) { return "x", name == "CONCORDAT_WEIGHT" })
	if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "CONCORDAT_WEIGHT") {
		t.Error(err)
	}
}

// Each setting has the same name in the file as on the command line.
func TestEachFlagIsASetting(t *testing.T) {
	s := defaultSettings()
	for line := range strings.SplitSeq(strings.TrimSpace(s.flags().FlagUsages()), "\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "--"), " ")
		s := defaultSettings()
		err := s.readFile(writeFile(t, name+" = [1970-01-01]\n"))
		if err == nil || strings.Contains(err.Error(), "there is no setting") {
			t.Errorf("--%s: %v", name, err)
		}
	}
}

func TestNodeRefused(t *testing.T) {
	base := t.TempDir()
	running := startNode(t, filepath.Join(base, "running"), "--bootstrap")
	stopped := startNode(t, filepath.Join(base, "stopped"), "--bootstrap")
	if code := stopped.end(t, syscall.SIGINT); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	const other = "00000000-0000-4000-8000-000000000001"
	for _, c := range []struct {
		name string
		code int
		args []string // an empty one is a new directory
		want string
	}{
		{"port in use", exitFailure, []string{"--group", testGroup, "--dir", "", "--bootstrap", "--listen", running.Address}, running.Address},
		{"client port in use", exitFailure, []string{"--group", testGroup, "--dir", "", "--bootstrap", "--client-listen", running.ClientAddress}, "--client-listen"},
		{"directory in use", exitFailure, []string{"--group", testGroup, "--dir", running.dir}, running.dir},
		{"directory of another group", exitFailure, []string{"--group", other, "--dir", stopped.dir}, "belongs to group " + testGroup},
		{"directory of another member", exitFailure, []string{"--group", testGroup, "--dir", stopped.dir, "--member", other}, "belongs to member " + stopped.Member},
		{"another address", exitFailure, []string{"--group", testGroup, "--dir", stopped.dir}, stopped.Address},
		{"founded before", exitFailure, []string{"--group", testGroup, "--dir", stopped.dir, "--bootstrap"}, "without Bootstrap"},
		{"late", exitFailure, []string{"--group", testGroup, "--dir", "", "--start-timeout", "200ms"}, "concordat join"},
		{"seed of another group", exitRefused, []string{"--group", other, "--dir", "", "--seeds", running.Address}, "refuses"},
		{"silent seed", exitFailure, []string{"--group", testGroup, "--dir", "", "--seeds", silent.Addr().String(), "--start-timeout", "200ms"}, "start timeout of 200ms"},
		{"no certificate", exitUsage, []string{"--group", testGroup, "--dir", "", "--bootstrap", "--client-tls-cert", "/nowhere.pem", "--client-tls-key", "/nowhere.pem"}, "/nowhere.pem"},
		{"unknown flag", exitUsage, []string{"--grup", testGroup}, "--grup"},
		{"argument", exitUsage, []string{"start"}, "no arguments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"node"}, c.args...)
			if i := slices.Index(args, ""); i > 0 {
				args[i] = filepath.Join(t.TempDir(), "new")
			}
			for _, flag := range []string{"--listen", "--client-listen"} {
				if !strings.Contains(strings.Join(c.args, " ")+" ", flag+" ") {
					args = append(args, flag, "127.0.0.1:0")
				}
			}
			if text := want(t, c.code, args...); !strings.Contains(text, c.want) {
				t.Errorf("%s\nhas no %q", text, c.want)
			}
		})
	}
	want(t, exitOK, "put", "--direct", "app.t", "k", "v", "--address", running.ClientAddress) // it was not disturbed
}

// A member that waits for its group answers, and can be told to stop.
func TestSignalWhileStarting(t *testing.T) {
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	for _, n := range []*testNode{first, second} {
		if code := n.end(t, syscall.SIGINT); code != exitOK {
			t.Fatalf("exit code %d\n%s", code, n.stderr.String())
		}
	}
	for _, c := range []struct {
		signal os.Signal
		code   int
	}{{syscall.SIGINT, exitOK}, {syscall.SIGTERM, exitTryAgain}} {
		alone := &testNode{cmd: command(testContext(t), t, "node", "--group", testGroup, "--dir", first.dir,
			"--listen", first.Address, "--client-listen", first.ClientAddress)}
		out, err := alone.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := alone.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var text string
		for !strings.Contains(text, "NO_QUORUM") { // until it listens, and has looked around
			text, _, _ = runCommand(t, "status", "--address", first.ClientAddress)
		}
		if !strings.Contains(text, second.Member) || !strings.Contains(text, first.Member+" waits for") {
			t.Errorf("status of a member without its group: %s", text)
		}
		if _, _, code := runCommand(t, "put", "--direct", "app.t", "k", "v", "--address", first.ClientAddress); code != exitTryAgain {
			t.Errorf("put: exit code %d, want %d", code, exitTryAgain)
		}
		if code := alone.end(t, c.signal); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.signal, code, c.code)
		}
		if rest, err := io.ReadAll(out); err == nil && len(rest) > 0 {
			t.Errorf("it said %q", rest)
		}
	}
}

// brittleEngine fails when it is told to.
type brittleEngine struct {
	applier.Engine
	broken atomic.Bool
}

func (e *brittleEngine) Apply(b applier.Batch) error {
	if e.broken.Load() {
		return errors.New("the disk is gone")
	}
	return e.Engine.Apply(b)
}

// The library takes a member to ERROR; that its process then ends, and says
// why, is the program's decision.
func TestFailedNodeEnds(t *testing.T) {
	ctx := testContext(t)
	store, err := pebblekv.Open(filepath.Join(t.TempDir(), "data"), pebblekv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	engine := &brittleEngine{Engine: store}
	s := defaultSettings()
	s.Group, s.Dir, s.Bootstrap, s.Listen, s.ClientListen = testGroup, t.TempDir(), true, loopback, loopback
	cfg := s.config()
	cfg.Engine = engine
	node, err := concordat.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(&s, s.logger(io.Discard), io.Discard, nil)
	if err := p.serve(ctx); err != nil {
		t.Fatal(err)
	}
	engine.broken.Store(true)
	write := make(chan error, 1)
	go func() {
		_, err := node.Update(ctx, func(tx *concordat.Tx) error {
			return tx.Put(concordat.Table{Schema: "app", Name: "t"}, []byte("k"), nil)
		})
		write <- err
	}()
	err = p.attend(ctx, node)
	if exitCode(err) != exitMemberFailed || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("exit code %d, want %d: %v", exitCode(err), exitMemberFailed, err)
	}
	if err := <-write; err == nil {
		t.Error("the write was acknowledged")
	}
}

// A second signal does not wait for what the first one began.
func TestSecondSignal(t *testing.T) {
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap", "--leave-timeout", "10m")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	if code := second.end(t, syscall.SIGKILL); code == exitOK {
		t.Fatal("SIGKILL let it end in order")
	}
	// Without a majority the group cannot let it go.
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for code := exitOK; code != exitTryAgain; { // until it no longer serves clients
		_, _, code = runCommand(t, "status", "--address", first.ClientAddress)
	}
	if code := first.end(t, syscall.SIGTERM); code != exitAtOnce {
		t.Errorf("exit code %d, want %d", code, exitAtOnce)
	}
}

// A member that the group does not let go stops all the same, and says so.
func TestLeaveTimeout(t *testing.T) {
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap", "--leave-timeout", "100ms")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	second.end(t, syscall.SIGKILL)
	if code := first.end(t, syscall.SIGTERM); code != exitFailure || !strings.Contains(first.stderr.String(), "still a member") {
		t.Errorf("exit code %d, want %d\n%s", code, exitFailure, first.stderr.String())
	}
}
