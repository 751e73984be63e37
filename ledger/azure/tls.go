package azure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"
)

// pin is whom TLS trusts: nodes that the pinned service endorsed, and nobody else.
type pin struct {
	service []*x509.Certificate
	clock   func() time.Time
}

// verify judges the certificate that a server showed. The pinned certificate stands for
// its key: it lives ninety days and is renewed over the same key, so its own time is not
// looked at. Path building would demand it; hence this instead of RootCAs.
func (p *pin) verify(shown []*x509.Certificate, host string) error {
	if len(shown) == 0 {
		return ErrNotPinned
	}
	node, now := shown[0], p.clock()
	endorsed := false
	for _, s := range p.service {
		endorsed = endorsed || node.CheckSignatureFrom(s) == nil
	}
	if !endorsed {
		return ErrNotPinned
	}
	if now.Before(node.NotBefore) || now.After(node.NotAfter) {
		return fmt.Errorf("node certificate out of its time")
	}
	return node.VerifyHostname(host)
}

// transport dials TLS by the pin, without proxy and without session tickets.
func (p *pin) transport() *http.Transport {
	return &http.Transport{
		Proxy: nil,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			raw, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			c := tls.Client(raw, &tls.Config{
				ServerName: host, MinVersion: tls.VersionTLS12,
				InsecureSkipVerify: true, // VerifyConnection below is the verification
				VerifyConnection:   func(s tls.ConnectionState) error { return p.verify(s.PeerCertificates, host) },
			})
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			if err := c.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, err
			}
			return c, nil
		},
		MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
	}
}
