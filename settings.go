package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/config"
	"github.com/chappe/chappe/deliver/gateway"
	"github.com/chappe/chappe/deliver/gateway/route"
	"github.com/chappe/chappe/deliver/push"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/listen"
	"github.com/chappe/chappe/source/feed"
	"github.com/chappe/chappe/source/mailbox"
	"github.com/chappe/chappe/store"
)

// settings is the configuration file: each package's own struct, composed.
type settings struct {
	// Server is where and for whom the program listens.
	Server serverSettings `yaml:"server"`
	// TLS has the program speak HTTPS itself: by cert and key, or by acme.
	TLS tlsSettings `yaml:"tls"`
	// Limits bound what clients can ask for.
	Limits limitSettings `yaml:"limits"`
	// Data is the data folder.
	Data string `yaml:"data" path:"file"`
	// Network says what outgoing requests may reach besides public addresses.
	Network networkSettings `yaml:"network"`
	// Access says who may read.
	Access accessSettings `yaml:"access"`
	// Topics are rules for topics; the first that matches holds.
	Topics event.Rules `yaml:"topics"`
	// Watches are what is watched.
	Watches []watchSettings `yaml:"watches"`
	// Routes are paths, or hosts, whose requests others answer, with their answers kept.
	Routes []route.Config `yaml:"routes"`
	// Cache bounds what of these answers is kept.
	Cache gateway.CacheConfig `yaml:"cache"`
}

type serverSettings struct {
	// Listen is the address and port, where port 0 takes a free one; or a Unix socket, as unix:/run/chappe.sock. A socket that systemd gives stands in its place.
	Listen string `yaml:"listen"`
	// BaseURL is how the outside reaches the program, with a path where it is mounted below a site.
	BaseURL string `yaml:"base_url"`
	// Metrics is an address for /metrics and /debug/pprof alone, without a token.
	Metrics string `yaml:"metrics"`
	// TrustedProxies may say in X-Forwarded-For who the client is.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// ProxyProtocol has the trusted proxies, and whoever connects to a Unix socket, begin each connection with a PROXY header, version 1 or 2; nobody else may.
	ProxyProtocol bool `yaml:"proxy_protocol"`
	// Compression lets events be compressed for WebSockets of known users. It doubles the CPU of small messages.
	Compression bool `yaml:"compression"`
	// Console is the path of the console, / if not given. A route at / needs it elsewhere, like /_chappe.
	Console string `yaml:"console"`
	// AllowedOrigins are the sites whose pages may use the API and the streams.
	AllowedOrigins []string `yaml:"allowed_origins"`
}

// Validate checks the addresses.
func (s serverSettings) Validate() error {
	if socket, isUnix := strings.CutPrefix(s.Listen, listen.UnixPrefix); isUnix && !filepath.IsAbs(socket) {
		return fmt.Errorf("listen: %q is no absolute path; write one like unix:/run/chappe.sock", socket)
	}
	if s.Console != "" && (!strings.HasPrefix(s.Console, "/") || s.Console != path.Clean(s.Console) || strings.ContainsAny(s.Console, "{}?# ")) {
		return fmt.Errorf("console: %q is no path; write one like /_chappe", s.Console)
	}
	if s.BaseURL != "" {
		u, err := url.Parse(s.BaseURL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			return errors.New("base_url is not an address like https://push.example or https://app.example/chappe")
		}
	}
	for _, origin := range s.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Path != "" || u.Scheme != "http" && u.Scheme != "https" {
			return fmt.Errorf("allowed_origins: %q is not an origin; write a scheme and host without a path, like https://app.example", origin)
		}
	}
	return nil
}

type limitSettings struct {
	push.Limits `yaml:",inline"`
	// Event is how much data one event may carry.
	Event event.ByteSize `yaml:"event"`
}

// connections is how many the program is to hold: sessions, and what comes besides.
func (s *settings) connections() int {
	return cmp.Or(s.Limits.Connections, push.DefaultLimits().Connections) + spareConnections
}

// Validate holds the event below what a request's body and a batch may be.
func (l limitSettings) Validate() error {
	if l.Event < 1024 || l.Event > 4<<20 {
		return errors.New("event is the data that one event may carry, from 1KiB to 4MiB")
	}
	return l.Limits.Validate()
}

type networkSettings struct {
	// AllowPrivate are private networks that may be reached.
	AllowPrivate []netip.Prefix `yaml:"allow_private"`
	// AllowPorts are ports besides 80, 443, 8080 and 8443.
	AllowPorts []int `yaml:"allow_ports"`
}

// Validate checks the ports.
func (n networkSettings) Validate() error {
	if slices.ContainsFunc(n.AllowPorts, func(port int) bool { return port < 1 || port > 65535 }) {
		return errors.New("allow_ports lists ports, from 1 to 65535")
	}
	return nil
}

func (n networkSettings) ports() []uint16 {
	ports := make([]uint16, len(n.AllowPorts))
	for i, port := range n.AllowPorts {
		ports[i] = uint16(port)
	}
	return ports
}

type accessSettings struct {
	// JWT says how subscriber tokens are checked.
	JWT account.JWTConfig `yaml:"jwt"`
	// Hook asks the application whose its own cookie or token is.
	Hook account.HookConfig `yaml:"hook"`
}

type watchSettings struct {
	// Name is the watch's own; it begins the source of its events.
	Name string `yaml:"name"`
	// Topic is where its events go.
	Topic event.Topic `yaml:"topic"`
	// OnDemand runs it only while somebody follows its topic, and a minute more.
	OnDemand bool `yaml:"on_demand"`
	// Every is how often it is asked. A feed: 15m if not given, never below 5m on
	// public addresses; on private ones 10s if not given. A mailbox whose server
	// cannot tell what is new: 1m if not given.
	Every time.Duration `yaml:"every"`
	// Backfill is how many of the newest entries or mails that are there at the first look are reported.
	Backfill int            `yaml:"backfill"`
	Feed     feed.Config    `yaml:",inline"`
	Mailbox  mailbox.Config `yaml:",inline"`
}

// Validate checks that it is a watch of some kind.
func (w watchSettings) Validate() error {
	if err := account.CheckTokenName(w.Name); err != nil {
		return errors.New("name is missing or has other characters than a-z, 0-9, - and _, or more than 64")
	}
	if w.Topic == "" {
		return errors.New("topic is missing; say where its events go, like feeds/news")
	}
	if (w.Feed.Feed == "") == (w.Mailbox.IMAP == "") {
		return errors.New("it says not what to watch, or two things; give one of feed: https://blog.example/rss and imap: imaps://user@host/INBOX")
	}
	if w.Every < 0 || w.Backfill < 0 {
		return errors.New("every and backfill cannot be negative")
	}
	return errors.Join(w.Feed.Validate(), w.Mailbox.Validate())
}

// Validate checks what several keys say together.
func (s settings) Validate() error {
	names := map[string]bool{}
	for _, w := range s.Watches {
		if names[w.Name] {
			return fmt.Errorf("watches: two are named %s; checkpoints are kept by name, so give each its own", w.Name)
		}
		names[w.Name] = true
	}
	if strings.HasPrefix(s.Data, "postgres://") || strings.HasPrefix(s.Data, "postgresql://") {
		return errors.New("data: PostgreSQL is not supported by this version; name a folder")
	}
	return s.checkRoutes()
}

// checkRoutes holds the routes off the program's own paths.
func (s settings) checkRoutes() error {
	for i, r := range s.Routes {
		if r.Path == "/" && s.Server.consolePath() == "/" && (r.Host == "" || s.isOwnHost(r.Host)) {
			return fmt.Errorf("routes[%d].path: / is where the console is; move that, as in server.console: /_chappe, or give the route a host of its own", i)
		}
	}
	return route.CheckAll(s.Routes, s.reserved())
}

// isOwnHost reports whether the host is that of base_url.
func (s settings) isOwnHost(host string) bool {
	base, err := url.Parse(s.Server.BaseURL)
	return err == nil && base.Hostname() == host
}

func (s serverSettings) consolePath() string { return cmp.Or(s.Console, "/") }

// configError is what is wrong with a configuration as a whole.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

const defaultConfig = "chappe.yaml"

// load reads the configuration that the flags name, over the defaults.
func (f *flags) load() (*settings, error) {
	s := &settings{
		Server: serverSettings{Listen: "127.0.0.1:8080", TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
		Limits: limitSettings{Event: 256 << 10},
		Data:   "./data",
	}
	file := f.config
	if file == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			file = defaultConfig
		}
	}
	if file != "" {
		if err := config.Load(file, s); err != nil {
			return nil, configError{err}
		}
	}
	if f.data != "" {
		s.Data = f.data
	}
	return s, nil
}

// open reads the configuration and opens the data folder it names.
func (f *flags) open(ctx context.Context) (*settings, *store.DB, error) {
	s, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	db, err := store.Open(ctx, s.Data)
	return s, db, err
}
