package receipt

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
)

// at walks into a decoded receipt; numbers are indices.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func object1(v any, path ...any) map[string]any { return at(v, path...).(map[string]any) }

// One thing wrong with the documented receipt, and exactly that refusal.
func TestAlteredReceipt(t *testing.T) {
	t.Parallel()
	trusted := service(t, vector(t, "documented-service.pem"))
	other := decoded(t, vector(t, "no-claims.json"))
	zero := strings.Repeat("00", 32)
	for name, test := range map[string]struct {
		change func(r map[string]any)
		want   Check
	}{
		"nothing":             {func(map[string]any) {}, ""},
		"unknown members":     {func(r map[string]any) { r["new"] = 1; object1(r, "receipt")["leaf"] = zero }, ""},
		"no endorsements":     {func(r map[string]any) { object1(r, "receipt")["serviceEndorsements"] = []any{} }, ""},
		"null endorsements":   {func(r map[string]any) { object1(r, "receipt")["serviceEndorsements"] = nil }, ""},
		"not ready":           {func(r map[string]any) { r["state"] = "Loading" }, CheckState},
		"no state":            {func(r map[string]any) { delete(r, "state") }, CheckFormat},
		"no receipt":          {func(r map[string]any) { delete(r, "receipt") }, CheckFormat},
		"null receipt":        {func(r map[string]any) { r["receipt"] = nil }, CheckFormat},
		"no leaf":             {func(r map[string]any) { delete(object1(r, "receipt"), "leafComponents") }, CheckFormat},
		"null claims digest":  {func(r map[string]any) { object1(r, "receipt", "leafComponents")["claimsDigest"] = nil }, CheckFormat},
		"short digest":        {func(r map[string]any) { object1(r, "receipt", "leafComponents")["claimsDigest"] = "00" }, CheckFormat},
		"no proof":            {func(r map[string]any) { delete(object1(r, "receipt"), "proof") }, CheckFormat},
		"signature no base64": {func(r map[string]any) { object1(r, "receipt")["signature"] = "!" }, CheckFormat},
		"no certificate":      {func(r map[string]any) { object1(r, "receipt")["cert"] = "" }, CheckFormat},
		"two certificates": {func(r map[string]any) {
			c := object1(r, "receipt")
			c["cert"] = c["cert"].(string) + at(other, "receipt", "cert").(string)
		}, CheckFormat},
		"transaction with a zero": {func(r map[string]any) { r["transactionId"] = "2.013" }, CheckFormat},
		"other node ID":           {func(r map[string]any) { object1(r, "receipt")["nodeId"] = zero }, CheckNode},
		"other node": {func(r map[string]any) {
			object1(r, "receipt")["cert"], object1(r, "receipt")["nodeId"] = at(other, "receipt", "cert"), at(other, "receipt", "nodeId")
		}, CheckSignature},
		"other write set": {func(r map[string]any) { object1(r, "receipt", "leafComponents")["writeSetDigest"] = zero }, CheckSignature},
		"other claims":    {func(r map[string]any) { object1(r, "receipt", "leafComponents")["claimsDigest"] = zero }, CheckSignature},
		"other evidence":  {func(r map[string]any) { object1(r, "receipt", "leafComponents")["commitEvidence"] = "ce:2.13:00" }, CheckSignature},
		"other transaction in evidence and beside": {func(r map[string]any) {
			leaf := object1(r, "receipt", "leafComponents")
			leaf["commitEvidence"], r["transactionId"] = strings.Replace(leaf["commitEvidence"].(string), "2.13", "2.14", 1), "2.14"
		}, CheckSignature},
		"other step": {func(r map[string]any) { object1(r, "receipt", "proof", 1)["left"] = zero }, CheckSignature},
		"step to the right": {func(r map[string]any) {
			at(r, "receipt", "proof").([]any)[1] = map[string]any{"right": at(r, "receipt", "proof", 1, "left")}
		}, CheckSignature},
		"steps out of order": {func(r map[string]any) {
			p := at(r, "receipt", "proof").([]any)
			p[0], p[1] = p[1], p[0]
		}, CheckSignature},
		"step left out":   {func(r map[string]any) { object1(r, "receipt")["proof"] = at(r, "receipt", "proof").([]any)[1:] }, CheckSignature},
		"other signature": {func(r map[string]any) { object1(r, "receipt")["signature"] = at(other, "receipt", "signature") }, CheckSignature},
		"both sides":      {func(r map[string]any) { object1(r, "receipt", "proof", 1)["right"] = zero }, CheckProof},
		"no side":         {func(r map[string]any) { at(r, "receipt", "proof").([]any)[1] = map[string]any{} }, CheckProof},
		"a side and more": {func(r map[string]any) { object1(r, "receipt", "proof", 1)["middle"] = zero }, CheckProof},
		"endless proof": {func(r map[string]any) {
			object1(r, "receipt")["proof"] = slices.Repeat(at(r, "receipt", "proof").([]any), maxProof)
		}, CheckFormat},
		"a foreign endorser": {func(r map[string]any) {
			object1(r, "receipt")["serviceEndorsements"] = []any{string(vector(t, "no-claims-service.pem"))}
		}, CheckEndorsement},
		"receipt of another transaction": {func(r map[string]any) { r["transactionId"] = "2.14" }, CheckTransaction},
		"receipt of another view":        {func(r map[string]any) { r["transactionId"] = "3.13" }, CheckTransaction},
		"no application claims":          {func(r map[string]any) { delete(r, "applicationClaims") }, CheckClaims},
		"null application claims":        {func(r map[string]any) { r["applicationClaims"] = nil }, CheckClaims},
		"empty application claims":       {func(r map[string]any) { r["applicationClaims"] = []any{} }, CheckClaims},
		"other contents":                 {func(r map[string]any) { object1(r, "applicationClaims", 0, "ledgerEntry")["contents"] = "Hello World" }, CheckClaims},
		"other collection": {func(r map[string]any) {
			object1(r, "applicationClaims", 0, "ledgerEntry")["collectionId"] = "subledger:1"
		}, CheckClaims},
		"other key": {func(r map[string]any) { object1(r, "applicationClaims", 0, "ledgerEntry")["secretKey"] = "AAAA" }, CheckClaims},
		"no key":    {func(r map[string]any) { object1(r, "applicationClaims", 0, "ledgerEntry")["secretKey"] = "" }, CheckFormat},
		"unknown protocol": {func(r map[string]any) {
			object1(r, "applicationClaims", 0, "ledgerEntry")["protocol"] = "LedgerEntryV2"
		}, CheckClaims},
		"unknown kind": {func(r map[string]any) { object1(r, "applicationClaims", 0)["kind"] = "Other" }, CheckClaims},
		"a claim too many": {func(r map[string]any) {
			r["applicationClaims"] = append(r["applicationClaims"].([]any), at(r, "applicationClaims", 0))
		}, CheckClaims},
		"endless claims": {func(r map[string]any) {
			r["applicationClaims"] = slices.Repeat(r["applicationClaims"].([]any), maxClaims+1)
		}, CheckFormat},
	} {
		r := decoded(t, vector(t, "documented.json"))
		test.change(r)
		_, err := Verify(encoded(t, r), trusted)
		if got := checkOf(t, err); got != test.want {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// The same bytes must not be two receipts to two readers.
func TestAmbiguousJSON(t *testing.T) {
	t.Parallel()
	trusted, good := service(t, vector(t, "documented-service.pem")), string(vector(t, "documented.json"))
	for name, bad := range map[string]string{
		"a member twice":          strings.Replace(good, `"state": "Ready"`, `"state": "Loading", "state": "Ready"`, 1),
		"an inner member twice":   strings.Replace(good, `"contents":`, `"contents": "Hello World", "contents":`, 1),
		"another case":            strings.Replace(good, `"state":`, `"State":`, 1),
		"two values":              good + "{}",
		"invalid UTF-8":           strings.Replace(good, `"state"`, "\"\xff\": 1, \"state\"", 1),
		"not an object":           "[" + good + "]",
		"cut short":               good[:len(good)-3],
		"nothing":                 "",
		"more than anybody needs": good + strings.Repeat(" ", MaxSize),
	} {
		if _, err := Verify([]byte(bad), trusted); checkOf(t, err) != CheckFormat {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every byte of what is proven counts.
func TestReceiptBitFlips(t *testing.T) {
	t.Parallel()
	root := certify(t, p256(t), "service", true, nil)
	f := forged{transaction: "3.7", evidence: "ce:3.7:ab", claims: []map[string]any{entryClaim("c", "x")}, node: certify(t, p256(t), "node", false, root)}
	good, trusted := encoded(t, f.sign(t)), []*x509.Certificate{root.cert}
	if _, err := Verify(good, trusted); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		s, err := Verify(bad, trusted)
		if err != nil {
			continue // checkOf the refusal is TestAlteredReceipt's matter
		}
		if e, ok := s.Entry(); !ok || e != (Entry{"c", "x"}) || s.Transaction != (Transaction{3, 7}) {
			t.Fatalf("byte %d flipped: %+v", i, s)
		}
	}
}

// What only whoever has a node's key can bring about.
func TestForgedReceipt(t *testing.T) {
	t.Parallel()
	root := certify(t, p256(t), "service", true, nil)
	node := certify(t, p256(t), "node", false, root)
	base := forged{transaction: "3.7", evidence: "ce:3.7:" + strings.Repeat("ab", 32), claims: []map[string]any{entryClaim("c", "x")}, node: node}
	older := certify(t, p256(t), "service", true, root) // the identity before a recovery, endorsed by the one after
	oldest := certify(t, p256(t), "service", true, older)
	oldNode := certify(t, p256(t), "node", false, oldest)
	stranger := certify(t, p256(t), "service", true, nil)
	for name, test := range map[string]struct {
		change func(f *forged)
		want   Check
	}{
		"genuine":                     {func(*forged) {}, ""},
		"two entries":                 {func(f *forged) { f.claims = append(f.claims, entryClaim("d", "y")) }, ""},
		"an entry by its digest":      {func(f *forged) { f.claims = []map[string]any{digestClaim(entryDigest("c", "x"))} }, ""},
		"before two recoveries":       {func(f *forged) { f.node, f.endorsers = oldNode, []*identity{oldest, older} }, ""},
		"recovery left out":           {func(f *forged) { f.node, f.endorsers = oldNode, []*identity{oldest} }, CheckEndorsement},
		"first identity left out":     {func(f *forged) { f.node, f.endorsers = oldNode, []*identity{older} }, CheckEndorsement},
		"recoveries out of order":     {func(f *forged) { f.node, f.endorsers = oldNode, []*identity{older, oldest} }, CheckEndorsement},
		"no identity of a recovery":   {func(f *forged) { f.node = oldNode }, CheckEndorsement},
		"node of its own making":      {func(f *forged) { f.node = certify(t, p256(t), "node", false, nil) }, CheckEndorsement},
		"node of a stranger":          {func(f *forged) { f.node = certify(t, p256(t), "node", false, stranger) }, CheckEndorsement},
		"node endorsed by a node":     {func(f *forged) { f.node, f.endorsers = certify(t, p256(t), "node", false, node), []*identity{node} }, CheckEndorsement},
		"node without ECDSA":          {func(f *forged) { f.node = certify(t, ed(t), "node", false, root) }, CheckNode},
		"no claims committed":         {func(f *forged) { f.noClaims = true }, CheckClaims},
		"an empty list committed":     {func(f *forged) { f.claims = nil }, CheckClaims},
		"evidence of another kind":    {func(f *forged) { f.evidence = "xx:3.7:ab" }, CheckTransaction},
		"evidence without its secret": {func(f *forged) { f.evidence = "ce:3.7" }, CheckTransaction},
		"evidence with more":          {func(f *forged) { f.evidence = "ce:3.7:ab:cd" }, CheckTransaction},
		"evidence of nothing":         {func(f *forged) { f.evidence = "ce:3:ab" }, CheckTransaction},
		"evidence with a zero":        {func(f *forged) { f.evidence = "ce:3.07:ab" }, CheckTransaction},
	} {
		f := base
		test.change(&f)
		_, err := Verify(encoded(t, f.sign(t)), []*x509.Certificate{stranger.cert, root.cert})
		if name == "node of a stranger" {
			_, err = Verify(encoded(t, f.sign(t)), []*x509.Certificate{root.cert})
		}
		if got := checkOf(t, err); got != test.want {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}

	swapped := base
	swapped.claims = []map[string]any{entryClaim("c", "x"), entryClaim("d", "y")}
	r := swapped.sign(t)
	list := r["applicationClaims"].([]any)
	list[0], list[1] = list[1], list[0]
	if _, err := Verify(encoded(t, r), []*x509.Certificate{root.cert}); checkOf(t, err) != CheckClaims {
		t.Errorf("claims out of order: %v", err)
	}
	if _, err := Verify(encoded(t, base.sign(t)), nil); checkOf(t, err) != CheckService {
		t.Errorf("no service certificate: %v", err)
	}
}

// A statement has one entry only if one entry is all it claims, and is disclosed.
func TestEntry(t *testing.T) {
	t.Parallel()
	one, digest := Claim{Entry: &Entry{"c", "x"}}, Claim{Digest: new([32]byte)}
	for _, claims := range [][]Claim{nil, {digest}, {one, one}, {one, digest}, {digest, one}} {
		if e, ok := (&Statement{Claims: claims}).Entry(); ok {
			t.Errorf("%v: %v", claims, e)
		}
	}
	if e, ok := (&Statement{Claims: []Claim{one}}).Entry(); !ok || e != *one.Entry {
		t.Error(e, ok)
	}
}

func TestServiceCertificates(t *testing.T) {
	t.Parallel()
	good := vector(t, "documented-service.pem")
	root := certify(t, p256(t), "service", true, nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		pem  []byte
		want int // how many; 0: refused
	}{
		"one":                   {good, 1},
		"with a NUL behind":     {append(bytes.Clone(good), 0), 1},
		"two":                   {append(bytes.Clone(good), vector(t, "no-claims-service.pem")...), 2},
		"nothing":               {nil, 0},
		"text":                  {[]byte("certificate"), 0},
		"text before":           {append([]byte("x\n"), good...), 0},
		"text behind":           {append(bytes.Clone(good), "x"...), 0},
		"another kind of block": {bytes.ReplaceAll(good, []byte("CERTIFICATE"), []byte("PUBLIC KEY")), 0},
		"not an authority":      {certify(t, p256(t), "service", false, nil).pem(), 0},
		"endorsed by another":   {certify(t, p256(t), "other", true, root).pem(), 0},
		"RSA":                   {certify(t, rsaKey, "service", true, nil).pem(), 0},
	} {
		got, err := ParseServiceCertificates(test.pem)
		if len(got) != test.want || test.want == 0 && checkOf(t, err) != CheckService {
			t.Errorf("%s: %d, %v", name, len(got), err)
		}
	}
}

// Whatever is accepted says what the service signed.
func FuzzVerify(f *testing.F) {
	trusted := service(f, vector(f, "documented-service.pem"))
	f.Add(vector(f, "documented.json"))
	f.Add(vector(f, "no-claims.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Verify(data, trusted)
		if err != nil {
			checkOf(t, err)
			return
		}
		for _, c := range s.Claims {
			if c.Entry != nil && *c.Entry != (Entry{"subledger:0", "Hello world"}) {
				t.Fatalf("never signed: %+v", c.Entry)
			}
		}
		if s.Transaction != (Transaction{2, 13}) || len(s.Claims) != 1 {
			t.Fatalf("never signed: %+v", s)
		}
	})
}

func FuzzServiceCertificates(f *testing.F) {
	f.Add(vector(f, "documented-service.pem"))
	f.Add(append(vector(f, "no-claims-service.pem"), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		if certs, err := ParseServiceCertificates(data); (err == nil) != (len(certs) > 0) {
			t.Fatal(err)
		}
	})
}
