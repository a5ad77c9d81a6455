package safedial_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chappe/chappe/internal/safedial"
)

// get asks for the address and closes the answer.
func get(t *testing.T, client *http.Client, address string) error {
	t.Helper()
	t.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func refused(err error) bool {
	_, ok := errors.AsType[*safedial.RefusedError](err)
	return ok
}

// counting is a server on the loopback that counts its requests.
func counting(t *testing.T) (s *httptest.Server, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	return s, asked
}

func port(t *testing.T, s *httptest.Server) uint16 {
	t.Helper()
	return netip.MustParseAddrPort(s.Listener.Addr().String()).Port()
}

func TestRefusedAddresses(t *testing.T) {
	client := safedial.NewClient(safedial.Policy{})
	for _, address := range []string{
		"0.0.0.0", "0.1.2.3", // this network
		"127.0.0.1", "127.255.255.254", // loopback
		"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", // private
		"100.64.0.1", "100.127.255.255", // carrier-grade NAT
		"169.254.0.1", "169.254.169.254", // link-local, cloud metadata
		"192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", // special
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", // multicast, reserved, broadcast
		"[::]", "[::1]",
		"[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:a9fe:a9fe]", // mapped
		"[::127.0.0.1]",                                           // compatible
		"[64:ff9b::7f00:1]", "[64:ff9b::a00:1]", "[64:ff9b:1::1]", // NAT64
		"[100::1]", "[2001::1]", "[2001:db8::1]", "[3fff::1]", // discard, Teredo, documentation
		"[2002:7f00:1::]", "[2002:a00:1::1]", // 6to4
		"[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fec0::1]", "[ff02::1]", // local, multicast
		"[4000::1]", // not global unicast
	} {
		for _, scheme := range []string{"http", "https"} {
			if err := get(t, client, scheme+"://"+address+"/"); !refused(err) {
				t.Errorf("%s://%s/: %v, want a RefusedError", scheme, address, err)
			}
		}
	}
}

// TestOddSpellings holds the ways to write 127.0.0.1 that a resolver may read
// or not: either it is refused, or there is no such name. It is never reached.
func TestOddSpellings(t *testing.T) {
	s, asked := counting(t)
	client := safedial.NewClient(safedial.Policy{AllowPorts: []uint16{port(t, s)}})
	for _, host := range []string{
		"2130706433", "017700000001", "0x7f000001", "0177.0.0.1", "0x7f.0.0.1", "127.1", "127.0.1", "0", "127.000.000.001",
		"127.0.0.1.", "localhost", "LOCALHOST", "localhost.", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
	} {
		err := get(t, client, fmt.Sprintf("http://%s:%d/", host, port(t, s)))
		_, unknown := errors.AsType[*net.DNSError](err)
		if !refused(err) && !unknown {
			t.Errorf("%s: %v, want a RefusedError or no such host", host, err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the server was reached %d times", n)
	}
}

func TestRefusedPorts(t *testing.T) {
	client := safedial.NewClient(safedial.Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowPorts: []uint16{8000}})
	for _, port := range []int{1, 22, 25, 53, 81, 143, 3306, 5432, 6379, 8001, 9200, 11211, 27017, 65535} {
		err := get(t, client, fmt.Sprintf("http://127.0.0.1:%d/", port))
		if !refused(err) || !strings.Contains(err.Error(), "allow_ports") {
			t.Errorf("port %d: %v, want a RefusedError with the remedy", port, err)
		}
	}
}

func TestAllowPrivateOpensItsPrefixAlone(t *testing.T) {
	s, asked := counting(t)
	p := safedial.Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/30")}, AllowPorts: []uint16{port(t, s)}}
	if err := get(t, safedial.NewClient(p), s.URL); err != nil || asked.Load() != 1 {
		t.Errorf("%s: %v, want it reached", s.URL, err)
	}
	for _, host := range []string{"127.0.0.4", "10.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]"} {
		if err := get(t, safedial.NewClient(p), fmt.Sprintf("http://%s:%d/", host, port(t, s))); !refused(err) {
			t.Errorf("%s: %v, want a RefusedError", host, err)
		}
	}
}

func TestAllowPrivateIPv6(t *testing.T) {
	client := safedial.NewClient(safedial.Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("fd00:1::/32")}})
	for _, host := range []string{"[fd00:2::1]", "[::1]", "10.0.0.1"} {
		if err := get(t, client, "http://"+host+"/"); !refused(err) {
			t.Errorf("%s: %v, want a RefusedError", host, err)
		}
	}
}

func TestNamedOpensItsHostAndPortAlone(t *testing.T) {
	s, asked := counting(t)
	other, otherAsked := counting(t)
	client := safedial.NewClient(safedial.Policy{
		Named:      []string{strings.ToUpper(s.URL) + "/feed", "%"},
		AllowPorts: []uint16{port(t, s), port(t, other)},
	})
	if err := get(t, client, s.URL+"/other"); err != nil || asked.Load() != 1 {
		t.Errorf("%s: %v, want it reached", s.URL, err)
	}
	for _, address := range []string{
		other.URL, // its port
		fmt.Sprintf("http://127.0.0.2:%d/", port(t, s)), // its host
		fmt.Sprintf("http://localhost:%d/", port(t, s)), // its name
	} {
		if err := get(t, client, address); !refused(err) {
			t.Errorf("%s: %v, want a RefusedError", address, err)
		}
	}
	if otherAsked.Load() != 0 {
		t.Error("the other server was reached")
	}
}

// TestNamedDefaultPort holds that a URL without a port names that of its
// scheme; nothing listens there, but the dial is not refused by us.
func TestNamedDefaultPort(t *testing.T) {
	client := safedial.NewClient(safedial.Policy{Named: []string{"http://127.0.0.1/feed"}})
	if err := get(t, client, "https://127.0.0.1/"); !refused(err) {
		t.Errorf("the other scheme: %v, want a RefusedError", err)
	}
	if err := get(t, client, "http://127.0.0.1:80/"); refused(err) {
		t.Errorf("what was named: %v", err)
	}
}

func TestAnything(t *testing.T) {
	s, asked := counting(t)
	if err := get(t, safedial.NewClient(safedial.Policy{Anything: true}), s.URL); err != nil || asked.Load() != 1 {
		t.Errorf("%s: %v, want it reached", s.URL, err)
	}
}

func TestRedirects(t *testing.T) {
	inside, asked := counting(t)
	tests := []struct {
		name, to, want string
		refused        bool
	}{
		{"file", "file:///etc/passwd", "redirects to file:", false},
		{"gopher", "gopher://127.0.0.1:70/", "redirects to gopher:", false},
		{"ftp", "ftp://127.0.0.1/", "redirects to ftp:", false},
		{"data", "data:text/plain,x", "redirects to data:", false},
		{"inside", inside.URL, "allow_private", true},
		{"metadata", "http://169.254.169.254/latest/meta-data/", "allow_private", true},
		{"loop", "/", "more than 5 times", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var hops atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				hops.Add(1)
				w.Header().Set("Location", tt.to)
				w.WriteHeader(http.StatusFound)
			}))
			defer s.Close()
			client := safedial.NewClient(safedial.Policy{Named: []string{s.URL}, AllowPorts: []uint16{port(t, inside)}})
			err := get(t, client, s.URL)
			if err == nil || !strings.Contains(err.Error(), tt.want) || refused(err) != tt.refused {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if n := hops.Load(); tt.name == "loop" && n != 6 {
				t.Errorf("%d requests, want the first and 5 redirects", n)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the inside was reached %d times", n)
	}
}

// TestRedirectTellsNoSecrets holds what the next host learns of the first.
func TestRedirectTellsNoSecrets(t *testing.T) {
	var got http.Header
	second := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer second.Close()
	elsewhere := strings.Replace(second.URL, "127.0.0.1", "localhost", 1)
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "id", Value: "1"})
		http.Redirect(w, r, elsewhere, http.StatusFound)
	}))
	defer first.Close()
	u, err := url.Parse(first.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.RawQuery = url.UserPassword("ann", "secret"), "token=secret"
	client := safedial.NewClient(safedial.Policy{Named: []string{first.URL, elsewhere}})
	if err := get(t, client, u.String()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Authorization", "Referer", "Cookie"} {
		if got.Get(name) != "" {
			t.Errorf("%s: %s reached the other host", name, got.Get(name))
		}
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	proxy, asked := counting(t)
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	transport, ok := safedial.NewClient(safedial.Policy{}).Transport.(*http.Transport)
	if !ok || transport.Proxy != nil {
		t.Error("the transport has a proxy")
	}
	client := safedial.NewClient(safedial.Policy{Named: []string{proxy.URL}})
	if err := get(t, client, "http://198.51.100.1/"); !refused(err) {
		t.Errorf("%v, want a RefusedError", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

func TestRefusedErrorNamesAddressAndRemedy(t *testing.T) {
	err := get(t, safedial.NewClient(safedial.Policy{}), "http://127.0.0.1:"+strconv.Itoa(8080)+"/")
	refusal, ok := errors.AsType[*safedial.RefusedError](err)
	if !ok {
		t.Fatal(err)
	}
	if refusal.Address != "127.0.0.1:8080" || refusal.Unwrap() == nil || !strings.Contains(refusal.Error(), "network.allow_private") {
		t.Errorf("%+v: %v", refusal, refusal)
	}
}

func TestReach(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{"http://" + port.Addr().String(), "h2c://" + port.Addr().String(), "unix:" + socket.Addr().String()}
	for _, address := range addresses {
		if err := safedial.Reach(t.Context(), address); err != nil {
			t.Errorf("Reach(%s) = %v", address, err)
		}
	}
	port.Close()
	socket.Close()
	for _, address := range addresses {
		if err := safedial.Reach(t.Context(), address); err == nil {
			t.Errorf("Reach(%s) finds who has left", address)
		}
	}
}
