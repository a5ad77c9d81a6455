package upstream

import (
	"context"
	"crypto/x509"
	"net"
)

// SetRootCAs is for the origins that are not yet there.
func (o *Origins) SetRootCAs(pool *x509.CertPool) { o.rootCAs = pool }

// SetDial is for the origins that are not yet there.
func (o *Origins) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	o.dial = dial
}
