package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// nodeProcess is a "concordat node" that this process has started, for the
// demo or the benchmark.
type nodeProcess struct {
	ready ready
	log   string // file that has its standard error
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended, and err set
	err   error
}

// startNodeProcess runs a node and returns when it serves transactions. args
// are those of the node command. The process ends with ctx; otherwise kill has
// to end it.
func startNodeProcess(ctx context.Context, executable, log string, args []string) (*nodeProcess, error) {
	errOut, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = errOut.Close() }() // the process has its own
	p := &nodeProcess{log: log, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, executable, append([]string{"node", "--json"}, args...)...)
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CONCORDAT_") })
	p.cmd.Stderr = errOut
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	line, readErr := bufio.NewReader(out).ReadBytes('\n')
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if readErr != nil {
		<-p.ended
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("the node did not start; its log ends with:\n%s", p.tail()))
	}
	if err := json.Unmarshal(line, &p.ready); err != nil {
		return nil, errors.Join(fmt.Errorf("the node said %q instead of that it is ready: %w", line, err), p.kill())
	}
	return p, nil
}

// kill ends the process with SIGKILL, and waits for its end.
func (p *nodeProcess) kill() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// tail returns the end of the node's log.
func (p *nodeProcess) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	const most = 10
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-most):], []byte("\n")))
}
