package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is what the figures were measured on.
type Machine struct {
	Cores      int    `json:"cores"`
	Procs      int    `json:"gomaxprocs"` // of the measuring process
	CPU        string `json:"cpu"`
	MemoryGiB  int    `json:"memory_gib"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Filesystem string `json:"filesystem"`
	// Volatile is true when the members' directories are in memory, so that
	// fsync makes nothing durable.
	Volatile bool `json:"volatile"`
}

// Magic numbers of statfs(2).
const (
	magicTmpfs   = 0x01021994
	magicRamfs   = 0x858458f6
	magicExt     = 0xef53
	magicXFS     = 0x58465342
	magicBtrfs   = 0x9123683e
	magicOverlay = 0x794c7630
)

var filesystems = map[int64]string{
	magicTmpfs: "tmpfs", magicRamfs: "ramfs", magicExt: "ext4", magicXFS: "xfs",
	magicBtrfs: "btrfs", magicOverlay: "overlayfs",
}

func inspect(dir string) Machine {
	m := Machine{
		Cores: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0), CPU: cpuModel(), MemoryGiB: memoryGiB(),
		Kernel: firstLine("/proc/sys/kernel/osrelease"), Go: runtime.Version(),
	}
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) == nil {
		kind := int64(fs.Type) //nolint:unconvert // narrower on some architectures
		m.Filesystem = filesystems[kind]
		if m.Filesystem == "" {
			m.Filesystem = fmt.Sprintf("filesystem %#x", kind)
		}
		m.Volatile = kind == magicTmpfs || kind == magicRamfs
	}
	return m
}

// String describes the machine on one line.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores (%s), %d GiB, Linux %s, %s with GOMAXPROCS %d, %s",
		m.Cores, m.CPU, m.MemoryGiB, m.Kernel, m.Go, m.Procs, m.Filesystem)
}

func cpuModel() string {
	for line := range lines("/proc/cpuinfo") {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

func memoryGiB() int {
	for line := range lines("/proc/meminfo") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kib, _ := strconv.Atoi(f[1])
			return (kib + 1<<19) >> 20
		}
	}
	return 0
}

// lines yields the lines of a file of /proc, none if there is no such file.
func lines(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

func firstLine(path string) string {
	for line := range lines(path) {
		return line
	}
	return "unknown"
}

// ownCPU is the CPU time that this process has used, in all its threads.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("CPU time of this process: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// processCPU is the CPU time that another process has used, to a hundredth of
// a second: fields 14 and 15 of its stat line, counted after the name, which
// may hold anything, in units that Linux fixes at 100 a second for user space.
func processCPU(pid int) (time.Duration, error) {
	stat := firstLine(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(stat, ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("CPU time of process %d: no such process", pid)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(user+system) * (time.Second / 100), nil
}

// background is how busy the machine is, in percent of all cores, while this
// program does nothing. -1 means that it cannot be told.
func background(ctx context.Context) float64 {
	const look = 200 * time.Millisecond
	busy, all := cpuTimes()
	if pause(ctx, look) != nil || all == 0 {
		return -1
	}
	busyAfter, allAfter := cpuTimes()
	if allAfter == all {
		return -1
	}
	return 100 * float64(busyAfter-busy) / float64(allAfter-all)
}

// cpuTimes are the machine's busy and total CPU times, in hundredths of a
// second.
func cpuTimes() (busy, all uint64) {
	const idle, ioWait, fields = 4, 5, 9 // positions in the line, which begins with "cpu"
	f := strings.Fields(firstLine("/proc/stat"))
	for i := 1; i < min(len(f), fields); i++ {
		n, _ := strconv.ParseUint(f[i], 10, 64)
		all += n
		if i != idle && i != ioWait {
			busy += n
		}
	}
	return busy, all
}

// deviceFlushes is the number of cache flushes that all whole disks have
// completed, and whether the kernel tells.
func deviceFlushes() (n uint64, ok bool) {
	const name, flushes, fields = 2, 18, 20
	for line := range lines("/proc/diskstats") {
		f := strings.Fields(line)
		if len(f) < fields || strings.HasPrefix(f[name], "loop") || strings.HasPrefix(f[name], "ram") {
			continue
		}
		if _, err := os.Stat("/sys/block/" + f[name]); err != nil {
			continue // a partition: its flushes are the disk's
		}
		v, err := strconv.ParseUint(f[flushes], 10, 64)
		n, ok = n+v, ok || err == nil
	}
	return n, ok
}
