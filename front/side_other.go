//go:build !linux || nethttp

package front

import (
	"net/http"
	"net/netip"

	"github.com/chappe/chappe/internal/head"
	"github.com/chappe/chappe/internal/loop"
)

// side stands for what a loop with sockets has; there is none here.
type side struct{}

func (*side) httpRequest(*Exchange) (*http.Request, error) { return nil, http.ErrNotSupported }
func (*side) peer(loop.Conn, uint32) netip.Addr            { return netip.Addr{} }
func (*side) encrypted(loop.Conn) bool                     { return false }
func (*side) path(*head.Request) []byte                    { return nil }
func (*side) hold(_, _ *Exchange)                          {}
func (*side) pass(*Exchange)                               {}
func (*side) reply(*Exchange, Answer)                      {}
func (*side) answer(*Exchange, int, http.Header, []byte)   {}

func (*side) stream(*Exchange, string, loop.OwnerID, uint32) loop.Conn { return 0 }

func (*side) upgrade(*Exchange, string, loop.OwnerID, uint32) loop.Conn { return 0 }
