package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// network is what lies between the members. They are counted from 1; clients
// are somewhere else, and are never cut off.
type network interface {
	// addresses returns where a member is for members and for clients.
	addresses(member int) (members, clients string)
	// flags returns those that have a node listen there.
	flags(member int) []string
	// in returns a command line that runs another one where a member is.
	in(place int, argv ...string) []string
	// cut loses what one member sends to another, until mend.
	cut(from, to int)
	mend()
}

// clientPlace is where clients are.
const clientPlace = 0

// isolate cuts a member off from others, both ways.
func isolate(n network, member int, others ...int) {
	for _, other := range others {
		n.cut(member, other)
		n.cut(other, member)
	}
}

// onEachNetwork runs a test with a packet filter between network namespaces,
// and with proxies on loopback. Where the former are not to be had, the test
// says so and has the latter.
func onEachNetwork(t *testing.T, test func(t *testing.T, n network)) {
	t.Run("proxies on loopback", func(t *testing.T) {
		t.Parallel()
		test(t, newProxies(t))
	})
	t.Run("packet filter between namespaces", func(t *testing.T) {
		t.Parallel()
		n, err := newNamespaces(t)
		if err != nil {
			t.Logf("NETWORK NAMESPACES DO NOT WORK HERE, loopback has to do: %v", err)
			return
		}
		test(t, n)
	})
}

// loopback is a network that cannot be cut.
type loopbackNetwork struct {
	t         *testing.T
	mu        sync.Mutex
	addressOf map[int][2]string
}

func newLoopback(t *testing.T) *loopbackNetwork {
	return &loopbackNetwork{t: t, addressOf: map[int][2]string{}}
}

func (n *loopbackNetwork) addresses(member int) (members, clients string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.addressOf[member]
	if !ok {
		a = [2]string{unusedAddress(n.t), unusedAddress(n.t)}
		n.addressOf[member] = a
	}
	return a[0], a[1]
}

func (n *loopbackNetwork) flags(member int) []string {
	members, clients := n.addresses(member)
	return []string{"--listen", members, "--client-listen", clients}
}

func (*loopbackNetwork) in(_ int, argv ...string) []string { return argv }

func (n *loopbackNetwork) cut(from, to int) {
	n.t.Fatalf("nothing is between %d and %d that can be cut", from, to)
}

func (*loopbackNetwork) mend() {}

// Each run of the tests tries ports from another one on.
var (
	firstTried = rand.Uint32N(1 << 20)
	portsTried atomic.Uint32
)

// unusedAddress returns an address that nobody is given by the system, since it
// is below the ports that it gives away, that nobody uses now, and that no other
// test is given, whose members may be down at the moment.
func unusedAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		const first, end = 12000, 32000
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(first+(firstTried+portsTried.Add(1))%(end-first))))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// namespaces are a network namespace for each member, and one for clients that
// routes between them and is where packets are lost.
type namespaces struct {
	t      *testing.T
	router *holder
	places map[int]*holder
	rules  []string // that lose packets
}

// holder is a process that keeps a namespace: it echoes, until its input ends.
type holder struct {
	cmd *exec.Cmd
}

func newHolder(t *testing.T, argv ...string) (*holder, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	_, _ = in.Write([]byte("here\n")) // that it is gone shows in the answer
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "here\n" {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, errOut.String())
	}
	return &holder{cmd}, nil
}

// enter returns a command line that runs another one in the namespace.
func (h *holder) enter(argv ...string) []string {
	return append([]string{"nsenter", "--preserve-credentials", "-U", "-n", "-t", strconv.Itoa(h.cmd.Process.Pid)}, argv...)
}

func newNamespaces(t *testing.T) (*namespaces, error) {
	t.Helper()
	router, err := newHolder(t, "unshare", "-rn", "cat")
	if err != nil {
		return nil, err
	}
	n := &namespaces{t: t, router: router, places: map[int]*holder{}}
	if err := n.run(router, "", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"); err != nil {
		return nil, err
	}
	for _, member := range []int{1, 2, 3} {
		if err := n.add(member); err != nil {
			return nil, err
		}
	}
	// Whether packets can be lost shows before a test relies on it.
	try := ruleAgainst(1, 2)
	return n, n.run(router, "rule add "+try+"\nrule del "+try+"\n", "ip", "-batch", "-")
}

// add makes the namespace of a member, which has an end of a cable to the
// router's.
func (n *namespaces) add(member int) error {
	h, err := newHolder(n.t, n.router.enter("unshare", "-n", "cat")...)
	if err != nil {
		return err
	}
	n.places[member] = h
	at := fmt.Sprintf(
		"link add v%[1]d type veth peer name eth0 netns %[2]d\naddr add 10.77.%[1]d.254/24 dev v%[1]d\nlink set v%[1]d up\n",
		member, h.cmd.Process.Pid)
	there := fmt.Sprintf(
		"link set lo up\naddr add 10.77.%[1]d.1/24 dev eth0\nlink set eth0 up\nroute add default via 10.77.%[1]d.254\n", member)
	return errors.Join(n.run(n.router, at, "ip", "-batch", "-"), n.run(h, there, "ip", "-batch", "-"))
}

// run runs a command in a namespace.
func (n *namespaces) run(h *holder, input string, argv ...string) error {
	argv = h.enter(argv...)
	// Also as the test ends, and its context has.
	cmd := exec.CommandContext(context.WithoutCancel(n.t.Context()), argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

func (*namespaces) addresses(member int) (members, clients string) {
	return fmt.Sprintf("10.77.%d.1:7400", member), fmt.Sprintf("10.77.%d.1:7500", member)
}

func (n *namespaces) flags(member int) []string {
	members, clients := n.addresses(member)
	return []string{"--listen", members, "--client-listen", clients}
}

func (n *namespaces) in(place int, argv ...string) []string {
	if place == clientPlace {
		return n.router.enter(argv...)
	}
	return n.places[place].enter(argv...)
}

func ruleAgainst(from, to int) string {
	return fmt.Sprintf("priority 100 iif v%d to 10.77.%d.1 blackhole", from, to)
}

func (n *namespaces) cut(from, to int) {
	n.t.Helper()
	rule := ruleAgainst(from, to)
	if slices.Contains(n.rules, rule) {
		return
	}
	if err := n.run(n.router, "rule add "+rule+"\n", "ip", "-batch", "-"); err != nil {
		n.t.Fatal(err)
	}
	n.rules = append(n.rules, rule)
}

func (n *namespaces) mend() {
	n.t.Helper()
	for _, rule := range n.rules {
		if err := n.run(n.router, "rule del "+rule+"\n", "ip", "-batch", "-"); err != nil {
			n.t.Fatal(err)
		}
	}
	n.rules = nil
}
