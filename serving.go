package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/chappe/chappe/internal/listen"
	"github.com/chappe/chappe/store"
)

const (
	// handOverTime is how long a process that was given its socket waits for
	// the one before it to leave the data folder.
	handOverTime = 90 * time.Second
	handOverTick = 50 * time.Millisecond
)

// urlOf is how this machine's commands reach the listener.
func (s *settings) urlOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return listen.UnixPrefix + l.Addr().String()
	}
	return s.scheme() + l.Addr().String()
}

func (s *settings) scheme() string {
	if s.TLS.on() {
		return "https://"
	}
	return "http://"
}

// dial makes the client for an address of ours: a URL, or unix:/path.
func (s *settings) dial(address string, ours bool) (url string, c *http.Client, err error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if ours {
		transport.Proxy = nil
	}
	if ours && s.TLS.on() {
		if transport.TLSClientConfig, err = s.TLS.pinned(s.Data); err != nil {
			return "", nil, err
		}
	}
	path, isUnix := strings.CutPrefix(address, listen.UnixPrefix)
	if isUnix {
		address = "http://localhost"
		if ours {
			address = s.scheme() + "localhost"
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
	}
	return trimSlash(address), &http.Client{Transport: transport}, nil
}

// openLog opens the log; of one who takes over a socket, once the process
// before it has left: what connects meanwhile waits in the kernel.
func openLog(ctx context.Context, db *store.DB, o store.Options, takesOver bool) (*store.Log, error) {
	end := time.Now().Add(handOverTime)
	for told := false; ; told = true {
		log, err := store.OpenLog(ctx, db, o)
		if _, inUse := errors.AsType[*store.InUseError](err); !inUse || !takesOver || time.Now().After(end) {
			return log, err
		}
		if !told {
			o.Logger.Info("waiting for the process before this one to leave the data folder")
		}
		select {
		case <-time.After(handOverTick):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (s *settings) roomForConnections(logger *slog.Logger) (int, error) {
	wanted := s.connections()
	room, err := listen.RoomFor(wanted)
	if room < wanted {
		logger.Warn("the limit of descriptors is below limits.connections; raise LimitNOFILE (systemd) or ulimit -n", "connections", room, "wanted", wanted)
	}
	return room, err
}
