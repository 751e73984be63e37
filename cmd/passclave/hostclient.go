package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/wire"
)

// hostClient reaches a host where it listens for its operator (passclave-host -metrics).
type hostClient struct {
	where  string // for messages
	url    string
	client *http.Client
}

// hostFlag adds --host.
func hostFlag(c *cobra.Command, host *string) {
	c.Flags().StringVar(host, "host", "", "where the host listens for its operator, as its -metrics has it: http://`ADDRESS` or unix:PATH (default: that in the state folder)")
}

// hostOf returns a host, or the one in a state folder.
func hostOf(host, state string) (*hostClient, error) {
	if host == "" {
		host = "unix:" + stack.OperatorSocket(state)
	}
	if path, ok := strings.CutPrefix(host, "unix:"); ok {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return &hostClient{filepath.Clean(path), "http://host", &http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
	}
	if !strings.HasPrefix(host, "http://") && !strings.HasPrefix(host, "https://") {
		return nil, usagef("--host %q is neither http://ADDRESS nor unix:PATH", host)
	}
	return &hostClient{host, strings.TrimRight(host, "/"), http.DefaultClient}, nil
}

// reseal has the host rewrap, and calls each with every line of progress. It returns the
// last one.
func (o *hostClient) reseal(ctx context.Context, each func(*api.Reseal)) (*api.Reseal, error) {
	var last api.Reseal
	err := o.post(ctx, func(d *json.Decoder) error {
		for !last.Finished {
			last = api.Reseal{}
			if err := d.Decode(&last); err != nil {
				return err
			}
			each(&last)
		}
		if last.Error != "" {
			return &wire.Error{Code: last.Error}
		}
		return nil
	})
	return &last, err
}

func (o *hostClient) post(ctx context.Context, read func(*json.Decoder) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url+"/reseal", nil)
	if err != nil {
		return usagef("--host is no address")
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := o.client.Do(r)
	if err != nil {
		return fmt.Errorf("no host listens for its operator at %s: %w", o.where, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		return fmt.Errorf("the host at %s answers %d: %s", o.where, answer.StatusCode, printable(strings.TrimSpace(string(text))))
	}
	if err := read(json.NewDecoder(answer.Body)); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the host at %s ended before it was done", o.where)
	} else if err != nil {
		return err
	}
	return nil
}
