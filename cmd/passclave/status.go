package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// notice is the JSON of something that another device did.
type notice struct {
	Sequence   uint64    `json:"sequence"`
	Kind       string    `json:"kind"`
	Device     string    `json:"device"`                // who did it
	Name       string    `json:"name,omitempty"`        // of that device, where the entry says it
	Target     string    `json:"target,omitempty"`      // whom it concerns: the device revoked
	TargetName string    `json:"target_name,omitempty"` // its name
	Time       time.Time `json:"time"`                  // by the host's clock
	Attempts   uint64    `json:"attempts,omitempty"`
	Lost       int       `json:"lost,omitempty"` // so many entries, up to this one, were too many to keep; the rest is empty then
}

func showNotices(notices []client.Notice) []notice {
	out := []notice{}
	for _, n := range notices {
		s := notice{Sequence: n.Sequence, Kind: string(n.Kind), Device: n.Device.String(), Name: n.Name, Time: fromUnix(n.Time), Attempts: n.Attempts, Lost: int(n.Lost)}
		if n.Kind == ledger.KindRevoke { // the name in its note is the target's
			s.Target, s.TargetName, s.Name = n.Target.String(), n.Name, ""
		}
		out = append(out, s)
	}
	return out
}

func printNotices(w io.Writer, notices []notice) {
	for _, n := range notices {
		if n.Lost > 0 {
			fmt.Fprintf(w, "  ! %s, too many to keep: `passclave history` shows what\n", count(n.Lost, "earlier change"))
			continue
		}
		h := historyEntry{Kind: n.Kind, Target: n.Target, TargetName: n.TargetName, Attempts: n.Attempts}
		fmt.Fprintf(w, "  ! %s: %s, by device %s\n", moment(n.Time), what(h), deviceName(n.Device, n.Name))
	}
}

// status is the JSON of status.
type status struct {
	Profile      string   `json:"profile"`
	Service      string   `json:"service"`
	Account      string   `json:"account,omitempty"`
	Device       string   `json:"device,omitempty"`
	Name         string   `json:"name,omitempty"`
	Member       bool     `json:"member"`
	Removed      bool     `json:"removed"`
	Young        bool     `json:"young"`
	Epoch        uint64   `json:"epoch"`
	Remembered   uint64   `json:"remembered"` // sequence of the newest entry that this device remembers
	Hash         string   `json:"remembered_hash,omitempty"`
	Freshness    string   `json:"freshness,omitempty"`
	SoftwareKeys bool     `json:"software_keys"`
	UV           string   `json:"uv"`
	Pending      string   `json:"pending,omitempty"`
	Alarm        *alarm   `json:"alarm,omitempty"`
	Notices      []notice `json:"notices"`
	Simulation   bool     `json:"simulation"`         // the pinned trust policy accepts simulated hardware
	Accepted     *bool    `json:"accepted,omitempty"` // attested just now; absent with --offline
	Problem      string   `json:"problem,omitempty"`  // code of why it could not be attested, or asked then
}

type alarm struct {
	Remembered uint64 `json:"remembered"`
	Offered    uint64 `json:"offered"`
	Restored   bool   `json:"restored,omitempty"` // other devices agreed to it: ledger restore
}

// freshnessHelp says in words how the newest state is known to be the newest.
var freshnessHelp = map[string]string{
	wire.FreshnessAzure: "azure: an attested node of an Azure Confidential Ledger said so to the enclave; a node that\n" +
		"              was cut off could show an older end",
	wire.FreshnessEndorsed: "endorsed: a majority of attested endorsers signed it over a fresh nonce",
	wire.FreshnessLocal: "local: the enclave remembers since it started, and this device remembers what it saw;\n" +
		"              a host that restarts the service from old copies is found out by the devices alone",
}

func (a *app) statusCommand() *cobra.Command {
	var offline, clear bool
	c := &cobra.Command{
		Use:   "status",
		Short: "What this device knows, and how the service is",
		Long: `Shows what this device knows of itself, its account and its service; what other devices did since
the last look; and, unless --offline is given, whether the service's attestation is accepted now.`,
		Example: `  passclave status --profile laptop
  passclave status --offline         # ask nobody
  passclave status --clear-alarm     # after you found out why`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			d, err := a.open(c.Context())
			if err != nil {
				return err
			}
			defer d.close()
			if clear {
				if err := d.ClearAlarm(c.Context()); err != nil {
					return err
				}
			}
			out := a.statusOf(c.Context(), d, offline)
			if err := a.print(out, func(w io.Writer) { printStatus(w, out) }); err != nil {
				return err
			}
			if n := len(out.Notices); n > 0 {
				if err := d.NoticesShown(c.Context(), out.Notices[n-1].Sequence); err != nil {
					return err
				}
			}
			if out.Alarm != nil {
				a.exit = exitAlarm
				return errReported
			}
			return nil
		},
	}
	c.Flags().BoolVar(&offline, "offline", false, "ask nobody")
	c.Flags().BoolVar(&clear, "clear-alarm", false, "take the alarm away; what this device remembers stays")
	return c
}

func (a *app) statusOf(ctx context.Context, d *device, offline bool) status {
	var accepted *bool
	problem := ""
	if !offline {
		a.working("verifying the service")
		_, err := d.Attest(ctx)
		is := err == nil
		accepted = &is
		if is && d.Status().Member {
			// Whether it is still a member only the enclave can tell, and the profile keeps it.
			if _, err = d.Devices(ctx); wire.CodeOf(err) == wire.CodeUnknownDevice {
				err = nil
			}
		}
		if err != nil {
			problem = toJSON(err).Code
		}
	}
	s := d.Status()
	out := status{
		Profile: a.profile, Service: s.URL, Name: s.Name, Member: s.Member, Removed: s.Removed, Young: s.Young,
		Epoch: s.Epoch, Remembered: s.Remembered.Sequence, Freshness: s.Freshness, SoftwareKeys: s.SoftwareKeys,
		UV: uvSoftware, Pending: string(s.Pending), Notices: showNotices(d.Notices()),
		Simulation: acceptsSimulation(d), Accepted: accepted, Problem: problem,
	}
	if s.Member || s.Removed {
		out.Account, out.Device, out.Hash = s.Account.String(), s.Device.String(), s.Remembered.Hash.String()
	}
	if s.Alarm != nil {
		out.Alarm = &alarm{s.Alarm.Remembered.Sequence, s.Alarm.Offered.Sequence, s.Alarm.Restored}
	}
	return out
}

// acceptsSimulation reports whether the pinned trust policy does.
func acceptsSimulation(d *device) bool {
	p, err := policy.Parse(d.TrustPolicy())
	return err == nil && p.Simulation != nil
}

func printStatus(w io.Writer, s status) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s  %s\n", name, fmt.Sprintf(format, args...))
	}
	line("profile", "%s", s.Profile)
	line("service", "%s", s.Service)
	if s.Simulation {
		line("", "SIMULATION: the pinned trust policy accepts simulated hardware, which proves nothing")
	}
	if s.Accepted != nil {
		switch {
		case *s.Accepted && s.Problem != "":
			line("", "attestation accepted just now, but it then refused a request: %s (%s)", sentence(wire.Code(s.Problem)), s.Problem)
		case *s.Accepted:
			line("", "attestation accepted just now")
		case s.Problem == string(wire.CodeUnavailable), s.Problem == string(wire.CodeUnsealedAnswer):
			line("", "could not be asked just now: is it running?")
		default:
			line("", "NOT accepted just now: %s (%s); `passclave verify` shows every check", sentence(wire.Code(s.Problem)), s.Problem)
		}
	}
	switch {
	case s.Removed:
		line("device", "%q (%.8s) is no longer a member: revoked, or it left", printable(s.Name), s.Device)
	case !s.Member:
		line("device", "not a member of an account yet")
	default:
		young := ""
		if s.Young {
			young = ", young: it cannot revoke devices or set the PIN yet"
		}
		line("device", "%q (%.8s) of account %.16s…%s", printable(s.Name), s.Device, s.Account, young)
		line("epoch", "%d", s.Epoch)
		line("remembers", "entry %d (%.16s…)", s.Remembered, s.Hash)
	}
	if s.SoftwareKeys {
		line("keys", "in a file of this profile")
	}
	line("UV", "software UV: a key sealed by your local code; as strong as that file and the code")
	if s.Freshness != "" {
		text := freshnessHelp[s.Freshness]
		if text == "" {
			text = s.Freshness
		}
		line("freshness", "%s", text)
	}
	if s.Pending != "" {
		line("pending", "%s: its answer was lost; passclave sync settles it", s.Pending)
	}
	if s.Alarm != nil {
		line("ALARM", "the service showed a history (entry %d) that does not contain entry %d, which this device remembers", s.Alarm.Offered, s.Alarm.Remembered)
		if s.Alarm.Restored {
			line("", "other devices of the account took it back on purpose: passclave ledger restore, if you know of it")
		}
	}
	printNotices(w, s.Notices)
}
