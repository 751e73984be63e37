package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/policy"
)

// device is an opened profile. The caller closes it.
type device struct {
	*client.Device
	storage *client.FileStorage
}

func (d *device) close() { d.storage.Close() }

func (a *app) options(storage client.Storage) client.Options {
	return client.Options{Storage: storage, Login: a.login, Code: a.code}
}

// open opens the chosen profile; [client.ErrNoProfile] where there is none.
func (a *app) open(ctx context.Context) (*device, error) {
	folder, err := a.profileFolder()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(folder, string(client.ItemProfile))); errors.Is(err, fs.ErrNotExist) {
		return nil, client.ErrNoProfile // without leaving an empty folder behind
	}
	storage, err := client.OpenFileStorage(folder)
	if err != nil {
		return nil, err
	}
	d, err := client.Open(ctx, a.options(storage))
	if err != nil {
		storage.Close()
		return nil, err
	}
	return &device{d, storage}, nil
}

// openOrMake opens the chosen profile, or makes it for the service at url with the
// trust policy of a file. A profile that is there keeps its service; another trust
// policy replaces the pinned one only after the person saw the difference and agreed.
func (a *app) openOrMake(ctx context.Context, url, policyFile string) (*device, error) {
	var trust []byte
	if policyFile != "" {
		var err error
		if trust, err = os.ReadFile(policyFile); err != nil {
			return nil, err
		}
	}
	d, err := a.open(ctx)
	if errors.Is(err, client.ErrNoProfile) {
		return a.make(ctx, url, trust)
	}
	if err != nil {
		return nil, err
	}
	if has := d.Status().URL; url != "" && strings.TrimRight(url, "/") != strings.TrimRight(has, "/") {
		d.close()
		return nil, usagef("profile %q belongs to %s; choose another --profile", a.profile, has)
	}
	if trust != nil {
		if err := a.repin(ctx, d, trust); err != nil {
			d.close()
			return nil, err
		}
	}
	return d, nil
}

func (a *app) make(ctx context.Context, url string, trust []byte) (*device, error) {
	if url == "" || trust == nil {
		return nil, usagef("a new profile needs the service's URL and --policy FILE: the trust policy that you were given, not one that the service gives you")
	}
	folder, err := a.profileFolder()
	if err != nil {
		return nil, err
	}
	storage, err := client.OpenFileStorage(folder)
	if err != nil {
		return nil, err
	}
	d, err := client.New(ctx, url, trust, a.options(storage))
	if err != nil {
		storage.Close()
		return nil, err
	}
	return &device{d, storage}, nil
}

// errDeclined ends a command because the person said no.
var errDeclined = errors.New("nothing was done")

// repinFrom is [app.repin] for the trust policy of a file.
func (a *app) repinFrom(ctx context.Context, d *device, file string) error {
	trust, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return a.repin(ctx, d, trust)
}

// repin pins another trust policy if the person agrees to the difference.
func (a *app) repin(ctx context.Context, d *device, trust []byte) error {
	pinned := d.TrustPolicy()
	if bytes.Equal(pinned, trust) {
		return nil
	}
	before, err := policy.Parse(pinned)
	if err != nil {
		return err
	}
	after, err := policy.Parse(trust)
	if err != nil {
		return err
	}
	changes := policy.Diff(before, after)
	a.warn("This trust policy is not the one pinned in profile %q:", a.profile)
	for _, c := range changes {
		a.warn("  %s", changed(c))
	}
	if len(changes) == 0 {
		a.warn("  the same rules, written differently")
	}
	if after.Ledger.Number > before.Ledger.Number {
		a.warn("It names genesis %d of the ledger, after %d: the operator says that all endorsers were lost. Every account is discontinued by that, until its devices confirm it.", after.Ledger.Number, before.Ledger.Number)
	}
	yes, err := a.confirm(ctx, "Pin it?")
	if err != nil {
		return err
	}
	if !yes {
		return errDeclined
	}
	return d.PinTrustPolicy(ctx, trust)
}

func changed(c policy.Change) string {
	text := string(c.Field)
	if c.Of != "" {
		text += " of " + c.Of
	}
	text += fmt.Sprintf(": %s → %s", firstOf(c.Before, "(nothing)"), firstOf(c.After, "(nothing)"))
	if c.Weaker {
		text += "   ACCEPTS MORE"
	}
	return printable(text)
}

// softwareNotes says what a profile of this command line holds in software.
func softwareNotes(s client.Status) string {
	var notes []string
	if s.SoftwareKeys {
		notes = append(notes, "device keys in a file")
	}
	if s.SoftwareUV {
		notes = append(notes, "software UV: as strong as that file and its local code")
	}
	return strings.Join(notes, "; ")
}
