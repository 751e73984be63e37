package runtime

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"

	"github.com/passclave/passclave/keyrelease/imds"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure"
	"github.com/passclave/passclave/ledger/azure/receipt"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// backend is the ledger that the measured configuration names.
type backend struct {
	over      func(*link) ledger.Ledger // the ledger through the host that a request came from
	streams   func() int                // that this process remembers
	freshness string
}

func (r *Runtime) newBackend() (backend, error) {
	verifier := func() *ledger.Verifier { return r.core.Load().Verifier() }
	switch r.configuration.Ledger.Backend {
	case wire.BackendAzure:
		return r.newAzure()
	case wire.BackendEndorsed:
		m := endorsed.New(endorsed.Options{
			Identity: r.configuration.Ledger,
			Verifier: verifier,
			Key:      func() (ed25519.PublicKey, func([]byte) []byte) { return r.core.Load().LedgerKey() },
			Evidence: func(ctx context.Context) ([]byte, error) {
				a, err := r.attest(ctx, nil)
				if err != nil {
					return nil, err
				}
				return a.Evidence, nil
			},
		})
		return backend{
			over:      func(l *link) ledger.Ledger { return m.Over(l) },
			streams:   func() int { return 0 }, // endorsers remember
			freshness: wire.FreshnessEndorsed,
		}, nil
	}
	m := local.New(verifier)
	return backend{
		over:      func(l *link) ledger.Ledger { return m.Over(l) },
		streams:   m.Streams,
		freshness: wire.FreshnessLocal,
	}, nil
}

// newAzure returns the backend over an Azure Confidential Ledger. TLS to it ends here; what
// the host keeps of it, it keeps in two steps.
func (r *Runtime) newAzure() (backend, error) {
	a, id := r.configuration.AzureLedger, r.configuration.Ledger
	service, err := receipt.ParseServiceCertificates([]byte(a.Service))
	if err != nil {
		return backend{}, err
	}
	if key := sha256.Sum256(service[0].RawSubjectPublicKeyInfo); !bytes.Equal(key[:], id.Genesis) {
		return backend{}, errors.New("ledger.genesis is not the hash of the key in azure_ledger.service_certificate")
	}
	s, err := azure.New(azure.Config{
		LedgerID: id.ID, URL: a.URL, Service: []byte(a.Service), CollectionKey: a.CollectionKey, APIVersion: a.APIVersion,
		Token:   imds.New(r.metadata, a.ClientID, azure.Audience).Token,
		Clock:   r.CertificateTime,
		Signers: func() []ledger.Signer { return r.core.Load().Signers() },
	})
	if err != nil {
		return backend{}, err
	}
	return backend{
		over:      func(l *link) ledger.Ledger { return s.Over(l) },
		streams:   func() int { return 0 }, // the service keeps them
		freshness: wire.FreshnessAzure,
	}, nil
}
