package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// InUseError says that another process holds the data folder.
type InUseError struct {
	Dir string
	PID string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("the data folder %s is in use by process %s; stop it, or name another folder with --data", e.Dir, e.PID)
}

// lock is the exclusive lock on a data folder: flock(2) on a file that names
// its holder and, once it serves, the holder's address. The kernel frees it
// however the holder ends.
type lock struct{ file *os.File }

func acquire(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid, _ := readLock(dir)
		_ = f.Close()
		return nil, &InUseError{Dir: dir, PID: pid}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	l := &lock{file: f}
	return l, l.write(fmt.Sprintf("%d\n", os.Getpid()))
}

func (l *lock) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(text), 0)
	return err
}

// release frees the lock; the file stays, or two could hold locks on two files.
func (l *lock) release() {
	_ = l.file.Truncate(0) // only a message
	_ = l.file.Close()
}

func readLock(dir string) (pid, address string) {
	text, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil {
		return "unknown", ""
	}
	pid, address, _ = strings.Cut(strings.TrimSpace(string(text)), "\n")
	return pid, address
}

// ServerAddress is the URL that the server on this data folder announced, or
// "" where none has since the folder was last left in order.
func ServerAddress(dir string) string {
	_, address := readLock(dir)
	return address
}
