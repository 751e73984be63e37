package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/client/webauthn"
	"github.com/passclave/passclave/wire"
)

// site is where a ceremony's options come from and its answer goes: the JSON API of
// the demo relying party (--rp), or a file and stdout (--options, --origin).
type site struct {
	rp, options, origin string
}

func (s *site) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.rp, "rp", "", "`URL` of a relying party with the demo's JSON API")
	c.Flags().StringVar(&s.options, "options", "", "`file` with the relying party's options (JSON); - for stdin. The answer goes to stdout")
	c.Flags().StringVar(&s.origin, "origin", "", "with --options: the `origin` that asks, such as https://example.org")
}

func (s *site) check() error {
	switch {
	case (s.rp == "") == (s.options == ""):
		return usagef("say either --rp URL, or --options FILE with --origin ORIGIN")
	case (s.options == "") != (s.origin == ""):
		return usagef("--options and --origin belong together")
	}
	return nil
}

// begin returns the options and the origin on whose behalf they are read.
func (s *site) begin(ctx context.Context, path string, question any, stdin io.Reader) (options []byte, origin string, err error) {
	if s.options != "" {
		if s.options == "-" {
			options, err = io.ReadAll(io.LimitReader(stdin, maxDocument))
		} else {
			options, err = os.ReadFile(s.options)
		}
		return unwrapped(options), s.origin, err
	}
	u, err := url.Parse(s.rp)
	if err != nil || u.Host == "" {
		return nil, "", usagef("--rp %q is not a URL", s.rp)
	}
	options, err = s.post(ctx, path, question)
	return unwrapped(options), u.Scheme + "://" + u.Host, err
}

// unwrapped takes the options out of {"publicKey": …}, as CredentialCreationOptions have it.
func unwrapped(options []byte) []byte {
	var outer struct {
		PublicKey json.RawMessage `json:"publicKey"`
	}
	if json.Unmarshal(options, &outer) == nil && len(outer.PublicKey) > 0 {
		return outer.PublicKey
	}
	return options
}

// maxDocument bounds what a relying party sends, in bytes.
const maxDocument = 1 << 20

// rpError is a relying party's refusal.
type rpError struct {
	status int
	answer string
}

func (e *rpError) Error() string {
	return fmt.Sprintf("the relying party refused (HTTP status %d): %s", e.status, printable(e.answer))
}

func (s *site) post(ctx context.Context, path string, body any) ([]byte, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	address, err := url.JoinPath(s.rp, path)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("relying party: %w", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("relying party: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, &rpError{answer.StatusCode, string(bytes.TrimSpace(b[:min(len(b), 512)]))}
	}
	return b, nil
}

// verified is what the relying party said after it had verified, read as the demo's
// JSON API has it.
type verified struct {
	User           string `json:"user"`
	CredentialID   string `json:"credential_id"` // base64url
	UserVerified   bool   `json:"user_verified"`
	BackupEligible bool   `json:"backup_eligible"`
	BackedUp       bool   `json:"backed_up"`
}

func readVerified(answer []byte) (verified, error) {
	var r struct {
		User           string `json:"user"`
		CredentialID   string `json:"credentialId"`
		UserVerified   bool   `json:"userVerified"`
		BackupEligible bool   `json:"backupEligible"`
		BackedUp       bool   `json:"backedUp"`
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return verified{}, fmt.Errorf("relying party: %w", err)
	}
	return verified(r), nil
}

// ceremony is the JSON of create and sign-in with --rp. With --options the answer
// itself is printed instead.
type ceremony struct {
	Passkey      *passkey `json:"passkey,omitempty"`
	RelyingParty verified `json:"relying_party"`
}

// finish hands the answer over and prints what came of it.
func (a *app) finish(ctx context.Context, s *site, path string, response []byte, k *client.Passkey, done string) error {
	if s.options != "" {
		var indented bytes.Buffer
		if err := json.Indent(&indented, response, "", "  "); err != nil {
			return err
		}
		a.progress.stop()
		_, err := fmt.Fprintln(a.stdout, indented.String())
		return err
	}
	b, err := s.post(ctx, path, json.RawMessage(response))
	if err != nil {
		return err
	}
	var out ceremony
	if out.RelyingParty, err = readVerified(b); err != nil {
		return err
	}
	if k != nil {
		shown := showPasskey(*k)
		out.Passkey = &shown
	}
	return a.print(out, func(w io.Writer) {
		v := out.RelyingParty
		uv := "without user verification"
		if v.UserVerified {
			uv = "with user verification (software UV)"
		}
		fmt.Fprintf(w, "%s %s as %q, %s.\n", done, s.rp, printable(v.User), uv)
	})
}

func (a *app) passkeyCreateCommand() *cobra.Command {
	var s site
	var user string
	var noUV bool
	c := &cobra.Command{
		Use:   "create --rp URL --user NAME",
		Short: "Create a passkey at a site",
		Long: `Creates a passkey at a relying party. Its private key is made in the enclave and stored sealed, so
that only an attested enclave together with one of your devices can use it.

With --rp the command talks to a site that has the demo relying party's JSON API. With --options
it takes PublicKeyCredentialCreationOptionsJSON of any site, and prints the
RegistrationResponseJSON that the site wants back.`,
		Example: `  passclave passkey create --rp http://localhost:8783 --user alice
  passclave passkey create --options options.json --origin https://example.org > response.json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			if s.rp != "" && user == "" {
				return usagef("say --user NAME: whom the site shall know you as")
			}
			return a.createPasskey(c.Context(), &s, user, noUV)
		},
	}
	s.flags(c)
	c.Flags().StringVar(&user, "user", "", "with --rp: your user `name` at the site")
	c.Flags().BoolVar(&noUV, "no-uv", false, "make a passkey that later signs in without your agreement, wherever the site lets it")
	a.codeFlag(c)
	return c
}

func (a *app) createPasskey(ctx context.Context, s *site, user string, noUV bool) error {
	d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	options, origin, err := s.begin(ctx, "/register/begin", map[string]string{"user": user}, a.stdin)
	if err != nil {
		return err
	}
	creation, err := webauthn.NewCreation(origin, options)
	if err != nil {
		return err
	}
	a.working("creating the passkey in the enclave")
	made, err := d.Create(ctx, creation.Command(uint64(time.Now().Unix()), noUV))
	if made == nil {
		return err
	}
	if err := a.unlessDone(err); err != nil {
		return err
	}
	response, err := creation.Response(&wire.CreateResult{
		Handle: made.Handle, Version: made.Version, CredentialID: made.CredentialID, AttestationObject: made.AttestationObject, PRF: made.PRF,
	})
	if err != nil {
		return err
	}
	k, _ := findPasskey(ctx, d, made.Handle.String()) // nil where the host did not give it yet
	return a.finish(ctx, s, "/register/finish", response, k, "Created a passkey at")
}

func (a *app) passkeySignInCommand() *cobra.Command {
	var s site
	var user, id string
	c := &cobra.Command{
		Use:        "sign-in --rp URL",
		SuggestFor: []string{"login", "signin"},
		Short:      "Sign in at a site with a passkey",
		Long: `Signs in at a relying party. The enclave signs, after you agreed with your local code (software UV).

With --options it takes PublicKeyCredentialRequestOptionsJSON of any site, and prints the
AuthenticationResponseJSON that the site wants back.`,
		Example: `  passclave passkey sign-in --rp http://localhost:8783
  passclave passkey sign-in --options options.json --origin https://example.org > response.json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return a.signIn(c.Context(), &s, user, id)
		},
	}
	s.flags(c)
	c.Flags().StringVar(&user, "user", "", "with --rp: your user `name` at the site; without it the passkey tells")
	c.Flags().StringVar(&id, "passkey", "", "the passkey's `ID`, where there are several for the site")
	c.RegisterFlagCompletionFunc("passkey", a.completePasskeys)
	a.codeFlag(c)
	return c
}

func (a *app) signIn(ctx context.Context, s *site, user, id string) error {
	d, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	question := map[string]string{}
	if user != "" {
		question["user"] = user
	}
	options, origin, err := s.begin(ctx, "/sign-in/begin", question, a.stdin)
	if err != nil {
		return err
	}
	request, err := webauthn.NewRequest(origin, options)
	if err != nil {
		return err
	}
	k, err := a.choose(ctx, d, request, id)
	if err != nil {
		return err
	}
	a.working("signing in the enclave")
	written := false
	if request.Blob != nil {
		if err := a.unlessDone(d.WriteBlob(ctx, k.Handle, request.Blob)); err != nil {
			return err
		}
		written = true
	}
	command := request.Command(k.Handle, &k.Metadata)
	assertion, err := d.Assert(ctx, client.AssertRequest{
		Handle: k.Handle, ClientDataHash: command.ClientDataHash, PRF: command.PRF, ReadBlob: command.ReadBlob,
		NoUV: request.UserVerification == webauthn.Discouraged,
	})
	if err != nil {
		return err
	}
	response, err := request.Response(&k.Metadata, &wire.AssertResult{
		AuthenticatorData: assertion.AuthenticatorData, Signature: assertion.Signature, PRF: assertion.PRF, Blob: assertion.Blob,
	}, written)
	if err != nil {
		return err
	}
	return a.finish(ctx, s, "/sign-in/finish", response, k, "Signed in at")
}

// choose finds the passkey that answers; where this device knows of none, it syncs once.
func (a *app) choose(ctx context.Context, d *device, r *webauthn.Request, id string) (*client.Passkey, error) {
	for synced := false; ; synced = true {
		l, err := d.List(ctx)
		if err != nil {
			return nil, err
		}
		var found []client.Passkey
		for _, k := range l.Passkeys {
			named := id == "" || len(id) >= minPrefix && strings.HasPrefix(k.Handle.String(), strings.ToLower(id))
			if r.Matches(&k.Metadata) && named && !k.Metadata.Deleted && (!k.Metadata.Hidden || len(r.Allow) > 0 || id != "") {
				found = append(found, k)
			}
		}
		switch {
		case len(found) == 1:
			return &found[0], nil
		case len(found) > 1:
			return nil, severalError(found)
		case synced:
			return nil, wire.Errorf(wire.CodeNotFound, "no passkey for %s", printable(r.RPID))
		}
		a.working("looking for new passkeys")
		if _, err := d.Sync(ctx); err != nil {
			return nil, err
		}
	}
}

func severalError(found []client.Passkey) error {
	var b bytes.Buffer
	for _, k := range found {
		fmt.Fprintf(&b, "\n  --passkey %.8s   %s %s", k.Handle, printable(k.Metadata.UserName), printable(k.Metadata.Label))
	}
	return usagef("several passkeys fit; say which:%s", b.String())
}
