package pebblekv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrInUse is returned by Open for a directory that another engine has open, in
// this process or another.
var ErrInUse = errors.New("pebblekv: directory is in use")

// Names in an engine's directory.
const (
	lockName       = "LOCK"
	currentName    = "CURRENT"
	currentTmp     = "CURRENT.tmp"
	statePrefix    = "state-"
	exportPrefix   = "export-"
	preparedPrefix = "prepared-"
)

// directory is the place of an engine: what CURRENT names, and what does not
// count.
type directory struct {
	vfs.FS
	path string
	lock io.Closer
}

// openDirectory creates path if need be and locks it.
func openDirectory(filesystem vfs.FS, path string) (*directory, error) {
	if err := mkdirAll(filesystem, path); err != nil {
		return nil, fmt.Errorf("create directory %s: %w", path, err)
	}
	d := &directory{FS: filesystem, path: path}
	lock, err := filesystem.Lock(d.join(lockName))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: stop the member that runs on it, or choose another directory: %w",
			ErrInUse, path, err)
	}
	d.lock = lock
	return d, nil
}

func (d *directory) join(name string) string { return d.PathJoin(d.path, name) }

// current returns the name that CURRENT holds, "" if there is no such file.
func (d *directory) current() (string, error) {
	b, err := readFile(d.FS, d.join(currentName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name, ok := strings.CutSuffix(string(b), "\n")
	if !ok || !strings.HasPrefix(name, statePrefix) || checkFileName(name) != nil {
		return "", fmt.Errorf("%w: %s holds %q instead of the name of a state", ErrCorrupt, d.join(currentName), b)
	}
	return name, nil
}

// setCurrent puts name in force, durably. After an error it is unknown which
// name a crash would leave in force, the old or the new.
func (d *directory) setCurrent(name string) error {
	if err := writeFile(d.FS, d.join(currentTmp), []byte(name+"\n")); err != nil {
		return err
	}
	if err := d.Rename(d.join(currentTmp), d.join(currentName)); err != nil {
		return err
	}
	return syncDir(d.FS, d.path)
}

// sweep removes every state but keep, every export, and what was prepared.
func (d *directory) sweep(keep string) error {
	names, err := d.List(d.path)
	if err != nil {
		return err
	}
	for _, name := range names {
		left := strings.HasPrefix(name, statePrefix) || strings.HasPrefix(name, exportPrefix) || strings.HasPrefix(name, preparedPrefix)
		if !left || name == keep {
			continue
		}
		if err := d.RemoveAll(d.join(name)); err != nil {
			return fmt.Errorf("remove what is left of an import, an export or a preparation: %w", err)
		}
	}
	return nil
}

// mkdirAll creates path and its parents so that they survive a crash.
func mkdirAll(filesystem vfs.FS, path string) error {
	var parents []string
	for p := path; ; {
		if _, err := filesystem.Stat(p); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		parent := filesystem.PathDir(p)
		parents = append(parents, parent)
		if parent == p {
			break
		}
		p = parent
	}
	if err := filesystem.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDir(filesystem, parent); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(filesystem vfs.FS, path string) error {
	f, err := filesystem.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func readFile(filesystem vfs.FS, path string) ([]byte, error) {
	f, err := filesystem.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func writeFile(filesystem vfs.FS, path string, b []byte) error {
	f, err := filesystem.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// checkFileName reports what keeps name from being one that Pebble gives to a
// file. A name from an export must not lead out of its directory.
func checkFileName(name string) error {
	if name == "" || len(name) > 255 || strings.Trim(name, ".") == "" {
		return fmt.Errorf("file name %q", name)
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("file name %q", name)
		}
	}
	return nil
}
