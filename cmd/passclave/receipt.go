package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/ledger/azure/receipt"
)

// verifiedReceipt is the JSON of ledger verify-receipt.
type verifiedReceipt struct {
	Verdict     string         `json:"verdict"` // genuine or not-genuine
	Check       string         `json:"check,omitempty"`
	Problem     string         `json:"problem,omitempty"`
	Transaction string         `json:"transaction,omitempty"` // view.sequence
	Node        string         `json:"node,omitempty"`        // SHA-256 of the signing node's public key
	Claims      []receiptClaim `json:"claims,omitempty"`
}

type receiptClaim struct {
	Collection string `json:"collection,omitempty"`
	Contents   string `json:"contents,omitempty"`
	Digest     string `json:"digest,omitempty"` // of a claim that stands by its digest alone
}

func (a *app) verifyReceiptCommand() *cobra.Command {
	var service string
	c := &cobra.Command{
		Use:   "verify-receipt FILE",
		Short: "Verify a saved receipt of an Azure Confidential Ledger",
		Long: `Verifies a write receipt, as GET /app/transactions/{id}/receipt of an Azure Confidential Ledger gives
it, under the ledger's service certificate, offline: Merkle proof, node signature, endorsement, the
transaction in the commit evidence, and the claims, which say what was written.

The certificate is the ledgerTlsCertificate of
https://identity.confidential-ledger.core.azure.com/ledgerIdentity/NAME; that it is the right
ledger's is yours to know. A receipt proves that an entry was committed, never that it is the newest.

Exit code 3: not genuine.`,
		Example: `  passclave ledger verify-receipt receipt.json --service-certificate service.pem`,
		Args:    args("FILE"),
		RunE: func(_ *cobra.Command, files []string) error {
			if service == "" {
				return usagef("--service-certificate names the ledger's, in PEM: `passclave ledger verify-receipt --help` says where it is")
			}
			data, err := os.ReadFile(files[0])
			if err != nil {
				return err
			}
			pinned, err := os.ReadFile(service)
			if err != nil {
				return err
			}
			out, err := verifyReceipt(data, pinned)
			if err != nil {
				return err
			}
			if err := a.print(out, func(w io.Writer) { printReceipt(w, out) }); err != nil {
				return err
			}
			if out.Check != "" {
				a.exit = exitEvidence
				return errReported
			}
			return nil
		},
	}
	c.Flags().StringVar(&service, "service-certificate", "", "the ledger's service certificate, a PEM `file`")
	return c
}

// verifyReceipt returns an error where it could not tell.
func verifyReceipt(data, pinned []byte) (*verifiedReceipt, error) {
	service, err := receipt.ParseServiceCertificates(pinned)
	if err != nil {
		return nil, err
	}
	s, err := receipt.Verify(data, service)
	var refused *receipt.Error
	switch {
	case errors.As(err, &refused) && refused.Check == receipt.CheckState:
		return nil, err
	case errors.As(err, &refused):
		return &verifiedReceipt{Verdict: "not-genuine", Check: string(refused.Check), Problem: refused.Unwrap().Error()}, nil
	case err != nil:
		return nil, err
	}
	out := &verifiedReceipt{Verdict: "genuine", Transaction: s.Transaction.String(), Node: hex.EncodeToString(s.Node[:])}
	for _, c := range s.Claims {
		if c.Entry != nil {
			out.Claims = append(out.Claims, receiptClaim{Collection: c.Entry.Collection, Contents: c.Entry.Contents})
		} else {
			out.Claims = append(out.Claims, receiptClaim{Digest: hex.EncodeToString(c.Digest[:])})
		}
	}
	return out, nil
}

func printReceipt(w io.Writer, r *verifiedReceipt) {
	if r.Check != "" {
		fmt.Fprintf(w, "NOT GENUINE: %s: %s\n", r.Check, r.Problem)
		return
	}
	fmt.Fprintf(w, "transaction  %s\nnode         %s\n", r.Transaction, r.Node)
	for _, c := range r.Claims {
		if c.Digest != "" {
			fmt.Fprintf(w, "claim        digest %s\n", c.Digest)
			continue
		}
		fmt.Fprintf(w, "collection   %s\ncontents     %s\n", c.Collection, c.Contents)
	}
	fmt.Fprintln(w, "\nGENUINE: the ledger committed this. Whether something newer exists no receipt says.")
}
