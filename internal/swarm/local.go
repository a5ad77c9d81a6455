package swarm

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Local is the address of a server, if it is on this machine: this makes load,
// and whoever runs another machine has not asked for it. Its errors begin with
// the server's URL.
func Local(server string) (netip.AddrPort, error) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address like http://127.0.0.1:8080", server)
	}
	if u.Scheme != "http" {
		return netip.AddrPort{}, fmt.Errorf("%s: bench speaks http:// alone; name the address behind what ends TLS", server)
	}
	host := u.Hostname()
	if host == "localhost" || host == "::" || host == "0.0.0.0" { // it listens everywhere, so here too
		host = "127.0.0.1"
	}
	target, err := netip.ParseAddrPort(net.JoinHostPort(host, cmp.Or(u.Port(), "80")))
	if err != nil || !target.Addr().Unmap().IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf("%s is not on this machine by its address; bench makes load, so it takes localhost, 127.0.0.0/8 and [::1] only", server)
	}
	return target, nil
}

// Origin is a URL without its path and what follows.
func Origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// spareDescriptors are for what else the process has open.
const spareDescriptors = 64

// RoomFor says what to do if the process may not have so many connections.
func RoomFor(connections int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	if need := connections + spareDescriptors; uint64(need) > limit.Cur {
		return fmt.Errorf("%d connections need %d descriptors and a process may have %d; raise ulimit -n", connections, need, limit.Cur)
	}
	return nil
}

// processCPU is the CPU time of this process since it started.
func processCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
