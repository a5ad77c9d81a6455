package swarm

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

const (
	// followSources are where connections come from over IPv4, so few from one
	// address that the server's limit on one is not what is measured.
	followSources   = "127.64.0.0/16"
	followPerSource = 500
)

// Follow is the options of connections that follow a topic of a Chappe on this
// machine, by ws or sse. Header is lines, each with its \r\n, of connection i.
func Follow(server, transport, topic string, header func(i int) string) (Options, error) {
	target, err := Local(server)
	if err != nil {
		return Options{}, err
	}
	u, err := url.Parse(server)
	if err != nil {
		return Options{}, fmt.Errorf("%s is not an address: %w", server, err)
	}
	o := Options{Target: target, Transport: WebSocket, Greeted: true, PerSource: followPerSource}
	path := strings.TrimRight(u.EscapedPath(), "/") + "/v1/ws"
	if transport == "sse" {
		o.Transport, path = SSE, strings.TrimRight(u.EscapedPath(), "/")+"/v1/stream"
	}
	if target.Addr().Is4() {
		o.Sources = netip.MustParsePrefix(followSources)
	}
	path += "?" + url.Values{"topic": {topic}}.Encode()
	o.Request = func(i int) Request { return Request{Path: path, Header: header(i)} }
	return o, nil
}
