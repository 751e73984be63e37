package stack_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/statefile"
)

// A folder has two operators, also one of before there were any, and keeps them.
func TestOperators(t *testing.T) {
	t.Parallel()
	o := options(t)
	if _, err := stack.ServiceOf(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	start(t, o).Stop()
	file := filepath.Join(o.Dir, "operators/operators.json")
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	s := start(t, o)
	made := read(t, file)
	s.Stop()
	s = start(t, o)
	if !bytes.Equal(read(t, file), made) {
		t.Error("a start changed the operators")
	}
	operators, err := operator.Parse(made)
	if err != nil || len(operators) != 2 {
		t.Fatalf("got %+v, %v", operators, err)
	}
	service, err := stack.ServiceOf(o.Dir)
	if err != nil || service.Broker != s.BrokerURL || len(service.Operators) != 2 {
		t.Fatalf("got %+v, %v", service, err)
	}
	for i, path := range service.Operators {
		key, err := statefile.ReadKey(path)
		if err != nil || !bytes.Equal(key[32:], operators[i].Key) {
			t.Errorf("the key of %s: %v", operators[i].Name, err)
		}
	}
}
