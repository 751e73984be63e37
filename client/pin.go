package client

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/passclave/passclave/wire"
)

// CheckPIN refuses trivial PINs with a [PINError]. The enclave cannot: it sees only
// the stretched PIN. The rule:
//
//   - valid UTF-8 of at most 128 bytes without control characters;
//   - digits only: at least 6 of them; any other: at least 4 characters;
//   - not one character repeated, not an ascending or descending run (123456,
//     fedcba, 890123 with 9 followed by 0), not two or three characters in turn (121212, 123123);
//   - none of the most common ones, in any case.
//
// A PIN of six digits keeps a thief with an enclave in the way out, not one who has
// the KEK and the database: only a long passphrase does that.
func CheckPIN(pin string) error {
	if !utf8.ValidString(pin) || len(pin) > 128 || strings.ContainsFunc(pin, unicode.IsControl) {
		return &PINError{"it must be text of at most 128 bytes"}
	}
	chars := []rune(pin)
	switch digits := onlyDigits(chars); {
	case digits && len(chars) < 6:
		return &PINError{"a PIN of digits needs at least 6"}
	case len(chars) < 4:
		return &PINError{"it needs at least 4 characters"}
	case run(chars, 0) || run(chars, 1) || run(chars, -1):
		return &PINError{"one repeated character, or a run"}
	case repeats(chars, 2) || repeats(chars, 3):
		return &PINError{"a short pattern, repeated"}
	case slices.Contains(commonPINs, strings.ToLower(pin)):
		return &PINError{"one of the first that anybody would try"}
	}
	return nil
}

func onlyDigits(chars []rune) bool {
	return !slices.ContainsFunc(chars, func(c rune) bool { return c < '0' || c > '9' })
}

// run reports whether each character is the one before plus step; digits go around.
func run(chars []rune, step rune) bool {
	for i := 1; i < len(chars); i++ {
		around := onlyDigits(chars[i-1:i+1]) && chars[i]-'0' == (chars[i-1]-'0'+step+10)%10
		if chars[i] != chars[i-1]+step && !around {
			return false
		}
	}
	return true
}

// repeats reports whether chars is one pattern of n characters, at least twice.
func repeats(chars []rune, n int) bool {
	if len(chars) < 2*n {
		return false
	}
	for i := n; i < len(chars); i++ {
		if chars[i] != chars[i-n] {
			return false
		}
	}
	return true
}

// commonPINs that the rules above leave, from published lists of leaked PINs and passwords.
var commonPINs = []string{
	"112233", "121314", "101112", "123654", "123321", "147258", "147852", "159357", "159753",
	"246810", "135790", "654123", "456123", "789456", "456789", "741852", "852963", "963852",
	"142536", "100200", "102030", "110110", "111222", "112211", "123987", "125125", "131420",
	"200000", "100000", "222333", "333444", "520520", "520131", "1314520", "5201314", "666888", "696969",
	"777888", "888999", "987123", "998877", "321654", "369258", "258369", "741963", "753951", "951753",
	"1234567a", "a123456", "123456a", "123abc", "abc123", "1q2w3e", "1qaz2wsx", "q1w2e3", "qwer", "qwert",
	"qwerty", "qwertz", "azerty", "asdf", "asdfgh", "zxcv", "zxcvbn", "pass", "passwd", "password", "password1",
	"passw0rd", "secret", "letmein", "welcome", "admin", "iloveyou", "love", "monkey", "dragon", "login",
	"test", "passclave",
}

// checkStretching refuses a ticket that would have the PIN stretched with less than
// the accepted measured configuration says, or with a salt of another size. The
// enclave dictates both; without the floor, one that was tricked into an older
// configuration would get a PIN that is cheap to search.
func checkStretching(salt []byte, p, floor wire.Argon2id) error {
	if len(salt) != wire.SaltSize {
		return wire.Errorf(wire.CodePolicy, "salt of %d bytes", len(salt))
	}
	if p.MemoryKiB < floor.MemoryKiB || p.Time < floor.Time || p.Parallelism < max(1, floor.Parallelism) || p.Time < 1 {
		return wire.Errorf(wire.CodePolicy, "Argon2id of %d KiB, %d passes, %d lanes is less than the measured configuration's %d, %d, %d",
			p.MemoryKiB, p.Time, p.Parallelism, floor.MemoryKiB, floor.Time, floor.Parallelism)
	}
	if p.MemoryKiB > maxStretchMemory || p.Time > maxStretchTime {
		return wire.Errorf(wire.CodePolicy, "Argon2id of %d KiB, %d passes is more than this client does", p.MemoryKiB, p.Time)
	}
	return nil
}

// The most that a client spends on one PIN.
const (
	maxStretchMemory = 2 << 20 // KiB
	maxStretchTime   = 64
)
