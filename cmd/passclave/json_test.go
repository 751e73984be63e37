package main

import (
	"encoding"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/json.txt")

// Scripts rely on the JSON: a member may be added, and none may go or change its
// type. testdata/json.txt lists all; -update writes it anew.
func TestJSONShapes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, s := range []struct {
		command string
		value   any
	}{
		{"enroll, join", admission{}},
		{"pin set", pinSet{}},
		{"device list", []deviceInfo{}},
		{"device revoke", revoked{}},
		{"passkey list", listing{}},
		{"passkey create --rp, sign-in --rp", ceremony{}},
		{"passkey rename, delete", edited{}},
		{"verify", verification{}},
		{"evidence save", saved{}},
		{"policy init", initialized{}},
		{"policy lint", linted{}},
		{"policy diff", compared{}},
		{"policy pin", pinned{}},
		{"confirm", confirmed{}},
		{"ledger restore", restored{}},
		{"history", []historyEntry{}},
		{"status", status{}},
		{"sync", synced{}},
		{"up", addresses{}},
		{"fsck", checked{}},
		{"keys list", keyList{}},
		{"keys create, rotate, enable, disable, policy set, policy approve", keyAct{}},
		{"keys policy show", releasePolicyShown{}},
		{"keys operator new", operatorMade{}},
		{"keys audit", audited{}},
		{"keys explain", releaseExplained{}},
		{"keys backup, restore", backup{}},
		{"keys reseal", resealed{}},
		{"every error, as {\"error\": …}", jsonError{}},
	} {
		fmt.Fprintf(&b, "%s\n", s.command)
		members(&b, "  ", reflect.TypeOf(s.value))
	}
	const file = "testdata/json.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("shapes changed:\n%s", b.String())
	}
}

// members writes a type's JSON members, one a line.
func members(b *strings.Builder, indent string, t reflect.Type) {
	switch {
	case t.Kind() == reflect.Pointer:
		members(b, indent, t.Elem())
	case t.Kind() == reflect.Slice:
		fmt.Fprintf(b, "%slist of\n", indent)
		members(b, indent+"  ", t.Elem())
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]():
		for f := range t.Fields() {
			if !f.IsExported() && !f.Anonymous {
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			kind := f.Type
			for kind.Kind() == reflect.Pointer {
				kind = kind.Elem()
			}
			if kind.Kind() == reflect.Slice && kind.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
				fmt.Fprintf(b, "%s%s string%s\n", indent, name, optional(options))
				continue
			}
			inner := kind.Kind() == reflect.Slice || kind.Kind() == reflect.Struct && kind != reflect.TypeFor[time.Time]()
			if inner {
				fmt.Fprintf(b, "%s%s%s\n", indent, name, optional(options))
				members(b, indent+"  ", kind)
				continue
			}
			fmt.Fprintf(b, "%s%s %s%s\n", indent, name, kind, optional(options))
		}
	default:
		fmt.Fprintf(b, "%s%s\n", indent, t)
	}
}

func optional(options string) string {
	if options == "omitempty" {
		return ", optional"
	}
	return ""
}
