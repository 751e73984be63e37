package enclave

import "github.com/passclave/passclave/wire"

// command is one row of the table of who may do what; what it needs stands at the
// head of its function.
type command struct {
	do      func(t *tx, arguments []byte) (any, error)
	changes bool // the account: the request is numbered
	alone   bool // in its request: strangers' commands, new epochs, and answers that may be large
	handle  func(arguments []byte) (wire.Handle, error)
}

// commands lists every command of this version.
var commands = map[wire.CommandName]command{
	wire.CommandTicket:    {do: with((*tx).ticket), alone: true},
	wire.CommandEnrol:     {do: with((*tx).enrol), alone: true, changes: true},
	wire.CommandJoin:      {do: with((*tx).join), alone: true, changes: true},
	wire.CommandReplaceUV: {do: with((*tx).replaceUV), changes: true},
	wire.CommandCreate:    {do: with((*tx).create), changes: true},
	wire.CommandAssert:    {do: with((*tx).assert), handle: names(func(a *wire.Assert) wire.Handle { return a.Handle })},
	wire.CommandBlob:      {do: with((*tx).writeBlob), changes: true, handle: names(func(a *wire.WriteBlob) wire.Handle { return a.Handle })},
	wire.CommandRename:    {do: with((*tx).rename), changes: true, handle: names(func(a *wire.Rename) wire.Handle { return a.Handle })},
	wire.CommandHide:      {do: with((*tx).hide), changes: true, handle: names(func(a *wire.Hide) wire.Handle { return a.Handle })},
	wire.CommandDelete:    {do: with((*tx).delete), changes: true, handle: names(func(a *wire.Delete) wire.Handle { return a.Handle })},
	wire.CommandReseal:    {do: with((*tx).resealPage), alone: true, changes: true},
	wire.CommandPINSet:    {do: with((*tx).pinSet), alone: true, changes: true},
	wire.CommandRevoke:    {do: with((*tx).revoke), alone: true, changes: true},
	wire.CommandSync:      {do: with((*tx).sync), alone: true},
	wire.CommandDevices:   {do: with((*tx).devices)},
	wire.CommandHistory:   {do: with((*tx).history), alone: true},
	wire.CommandConfirm:   {do: with((*tx).confirm), alone: true},
}

// with decodes a command's arguments strictly before it runs.
func with[A any](do func(*tx, *A) (any, error)) func(*tx, []byte) (any, error) {
	return func(t *tx, arguments []byte) (any, error) {
		a := new(A)
		if err := wire.Unmarshal(arguments, a); err != nil {
			return nil, err
		}
		return do(t, a)
	}
}

// names finds the record that a command's arguments name.
func names[A any](handle func(*A) wire.Handle) func([]byte) (wire.Handle, error) {
	return func(arguments []byte) (wire.Handle, error) {
		a := new(A)
		if err := wire.Unmarshal(arguments, a); err != nil {
			return wire.Handle{}, err
		}
		return handle(a), nil
	}
}
