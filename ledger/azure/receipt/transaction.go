package receipt

import (
	"fmt"
	"strconv"
	"strings"
)

// Transaction is a transaction ID: the place of a transaction in a ledger. Committed
// transactions have ascending sequences, and views that never fall.
type Transaction struct {
	View     uint64 // counts the elections of the nodes' primary
	Sequence uint64 // place in the ledger, from 1
}

// ParseTransaction reads "view.sequence", decimal, as the service writes it.
func ParseTransaction(s string) (Transaction, error) {
	view, sequence, _ := strings.Cut(s, ".")
	v, err := strconv.ParseUint(view, 10, 64)
	n, err2 := strconv.ParseUint(sequence, 10, 64)
	t := Transaction{v, n}
	if err != nil || err2 != nil || t.String() != s {
		return Transaction{}, fmt.Errorf("not a transaction ID")
	}
	return t, nil
}

func (t Transaction) String() string { return fmt.Sprintf("%d.%d", t.View, t.Sequence) }
