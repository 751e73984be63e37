package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// A caller is where a call or a connection comes from.
type caller struct {
	address netip.Addr // an IPv6 address stands for its network of 64 bits
	exempt  bool       // no limit of one address holds
}

// nowhere is all whose address is not known: they share one limit.
var nowhere = caller{address: netip.IPv6Unspecified()}

const forwardedFor = "X-Forwarded-For"

// from says where a call comes from: the peer, or, behind trusted proxies, the last
// address in X-Forwarded-For that is not one of them. Loopback is the operator and
// exempt, unless it speaks for others: then it is a proxy that is not trusted, and
// all behind it share its limit.
func (s *Server) from(r *http.Request) caller {
	a, err := parseHop(r.RemoteAddr)
	if err != nil {
		return nowhere
	}
	forwarded := r.Header.Values(forwardedFor)
	if len(forwarded) == 0 {
		return caller{network(a), a.IsLoopback()}
	}
	if a.IsLoopback() && !s.trusted(a) {
		s.untold.Do(func() {
			s.o.Log.Warn("a proxy on this machine is no -trusted-proxy: all behind it share the limits of one address", "proxy", a)
		})
	}
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusted(a); i-- {
		if a, err = parseHop(hops[i]); err != nil {
			return nowhere
		}
	}
	return caller{address: network(a)}
}

// peer says where a connection comes from. A trusted proxy's connections carry many
// callers.
func (s *Server) peer(c net.Conn) caller {
	a, err := parseHop(c.RemoteAddr().String())
	if err != nil {
		return nowhere
	}
	return caller{network(a), a.IsLoopback() || s.trusted(a)}
}

// parseHop parses an address, with or without a port.
func parseHop(text string) (netip.Addr, error) {
	text = strings.TrimSpace(text)
	p, err := netip.ParseAddrPort(text)
	a := p.Addr()
	if err != nil {
		a, err = netip.ParseAddr(strings.Trim(text, "[]"))
	}
	return a.Unmap().WithZone(""), err
}

func network(a netip.Addr) netip.Addr {
	if a.Is4() || a.IsLoopback() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}

func (s *Server) trusted(a netip.Addr) bool {
	for _, p := range s.o.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
