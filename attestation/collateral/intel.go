package collateral

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// IntelSource is a service that speaks Intel's PCS API, version 4, at a base URL, and
// the place of Intel's root revocation list in DER.
type IntelSource struct{ Base, RootCRL string }

// Intel is Intel's own provisioning certification service.
func Intel() IntelSource {
	return IntelSource{"https://api.trustedservices.intel.com", "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"}
}

const intelName = "Intel's PCS"

// intelItem is one collateral of a quote: its name in bundle and store, where it is, and
// in which header its issuers are.
type intelItem struct {
	name, stored, header string
	address              func(IntelSource) string
}

// intelItems are those that were asked for.
func (c *Completer) intelItems(b *attestation.Bundle, claims *attestation.Claims, ca string) (items []intelItem) {
	tee := string(b.Platform) // "sgx", "tdx": as the API's paths have them
	at := func(path string) func(IntelSource) string {
		return func(s IntelSource) string { return strings.TrimSuffix(s.Base, "/") + path }
	}
	root := claims.Root.String()[:16] // a simulation's collateral beside Intel's
	if c.TCB {
		fmspc := fmt.Sprintf("%x", claims.Intel.FMSPC)
		items = append(items,
			intelItem{"tcb-info", "intel-" + tee + "-tcb-" + fmspc + "-" + root + ".cbor", "TCB-Info-Issuer-Chain", at("/" + tee + "/certification/v4/tcb?fmspc=" + fmspc)},
			intelItem{"qe-identity", "intel-" + tee + "-qe-" + root + ".cbor", "SGX-Enclave-Identity-Issuer-Chain", at("/" + tee + "/certification/v4/qe/identity")})
	}
	if c.Revocation {
		items = append(items,
			intelItem{"pck-crl", "intel-pck-" + ca + "-" + root + ".cbor", "SGX-PCK-CRL-Issuer-Chain", at("/sgx/certification/v4/pckcrl?ca=" + ca + "&encoding=der")},
			intelItem{"root-crl", "intel-root-" + root + ".cbor", "", func(s IntelSource) string { return s.RootCRL }})
	}
	return items
}

func (c *Completer) completeIntel(ctx context.Context, b *attestation.Bundle) error {
	if !c.TCB && !c.Revocation {
		return nil
	}
	bare := &attestation.Bundle{Platform: b.Platform, Report: b.Report}
	claims, err := c.hardware(bare)
	if err != nil {
		return err // the quote itself: nothing can be fetched for it
	}
	items := c.intelItems(b, claims, pckCA(b.Report))
	var list []attestation.Collateral
	for _, x := range b.Collateral {
		if !slices.ContainsFunc(items, func(i intelItem) bool { return i.name == x.Name }) {
			list = append(list, x) // not asked for: left as it is
		}
	}
	for _, item := range items {
		// With what was found before: a list may revoke the signer of another item.
		bare.Collateral = list
		found, err := c.intelCollateral(ctx, bare, b.Collateral, item)
		if err != nil {
			return err
		}
		list = append(list, *found)
	}
	b.Collateral = list
	return nil
}

// intelCollateral finds an item that holds together with the bundle's.
func (c *Completer) intelCollateral(ctx context.Context, with *attestation.Bundle, stapled []attestation.Collateral, item intelItem) (*attestation.Collateral, error) {
	good := func(x *attestation.Collateral) error {
		if x.Name != item.name {
			return ErrAnswer
		}
		candidate := *with
		candidate.Collateral = append(slices.Clone(with.Collateral), *x)
		_, err := c.hardware(&candidate)
		return err
	}
	missing := &Incomplete{Missing: item.name}
	for i := range stapled {
		if stapled[i].Name != item.name {
			continue
		}
		err := good(&stapled[i])
		if err == nil {
			return &stapled[i], nil
		}
		missing.Stapled = append(missing.Stapled, err)
		if final(err) {
			return nil, missing
		}
	}
	if x, ok, err := stored(c, item.stored, decodeCollateral, good); ok {
		return x, nil
	} else if err != nil {
		missing.Tried = append(missing.Tried, fmt.Errorf("stored: %w", err))
		return nil, missing
	}
	for _, source := range c.Intel {
		x, err := source.get(ctx, c.fetch, item)
		if err == nil {
			if err = good(x); err == nil {
				c.keep(item.stored, wire.Marshal(*x))
				return x, nil
			}
			err = fmt.Errorf("%s: %w", intelName, err)
		}
		missing.Tried = append(missing.Tried, err)
		if final(err) {
			break
		}
	}
	if len(c.Intel) == 0 {
		missing.Tried = append(missing.Tried, ErrNoSource)
	}
	return nil, missing
}

func decodeCollateral(data []byte) (*attestation.Collateral, error) {
	var x attestation.Collateral
	return &x, wire.Unmarshal(data, &x)
}

// get asks for an item. Its issuers stand in a header: PEM, percent-encoded.
func (s IntelSource) get(ctx context.Context, f *fetcher, item intelItem) (*attestation.Collateral, error) {
	body, header, err := f.get(ctx, intelName, item.address(s), nil)
	if err != nil {
		return nil, err
	}
	x := &attestation.Collateral{Name: item.name, Data: body}
	if item.header == "" {
		return x, nil
	}
	text, err := url.PathUnescape(header.Get(item.header)) // a plus is base64's
	if err == nil {
		x.Issuer, err = decodePEM([]byte(text))
	}
	if err != nil {
		return nil, &Error{Source: intelName, Status: http.StatusOK, RequestID: requestID(header.Get), cause: fmt.Errorf("%w: its issuers: %w", ErrAnswer, err)}
	}
	return x, nil
}

// pckCA says which of Intel's authorities issued the PCK certificate in a quote, as the
// API names it. The quote may lie: then it gets a list that does not hold.
func pckCA(quote []byte) string {
	at := bytes.Index(quote, []byte("-----BEGIN CERTIFICATE-----"))
	if at < 0 {
		return "platform"
	}
	if block, _ := pem.Decode(quote[at:]); block != nil {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && strings.Contains(c.Issuer.CommonName, "Processor") {
			return "processor"
		}
	}
	return "platform"
}
