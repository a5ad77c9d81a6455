// Package listen gets a program what it serves by: a listener, be it a port, a
// Unix socket or what systemd listens on for it, room for connections, and a
// certificate that is read again when its files change.
package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// UnixPrefix begins an address that is the path of a Unix socket.
const UnixPrefix = "unix:"

// OtherDescriptors are files, upstreams and what else is no client's connection.
const OtherDescriptors = 300

const (
	socketMode = 0o660 // the proxy's group may connect

	// firstActivated is the descriptor of the first socket that systemd gives
	// (sd_listen_fds(3)).
	firstActivated = 3
)

// Activated is the socket that systemd listens on for us, nil if there is none.
func Activated(getenv func(string) string) (net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if n := getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("systemd gives %s sockets; give chappe.socket one ListenStream", n)
	}
	f := os.NewFile(firstActivated, "LISTEN_FD_3")
	defer f.Close() // FileListener has a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket that systemd gives cannot be listened on: %w; give chappe.socket a ListenStream", err)
	}
	return l, nil
}

// On listens on an address and port, or on a Unix socket: unix:/path.
func On(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, UnixPrefix)
	if !isUnix {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w; stop what listens there, or name another port with --listen", address, err)
		}
		return l, nil
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w; its folder must be there, and ours to write to", address, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), l.Close())
	}
	return l, nil
}

// removeStale removes the socket of a process that is no more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		err = errors.New("there is something else there")
	}
	if err != nil {
		return fmt.Errorf("listen on %s%s: %w; name another path", UnixPrefix, path, err)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	switch {
	case err == nil:
		_ = conn.Close() // it was only to know
		return fmt.Errorf("listen on %s%s: another process does; stop it, or name another path", UnixPrefix, path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("listen on %s%s: %w", UnixPrefix, path, err)
}

// RoomFor is how many of the wanted connections the process's limit of
// descriptors has room for. The runtime has raised it to the hard limit.
func RoomFor(wanted int) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("ask for the limit of descriptors: %w", err)
	}
	if limit.Max >= uint64(wanted+OtherDescriptors) {
		return wanted, nil
	}
	return max(1, int(limit.Max)-OtherDescriptors), nil
}
