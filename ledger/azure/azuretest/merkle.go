package azuretest

import "crypto/sha256"

// CCF's Merkle tree: leaves are the transactions in order; each level pairs
// neighbours, and a last one without a neighbour rises unchanged.

// step is one element of a proof, as the service writes it.
type step struct {
	Left  string `json:"left,omitempty"`
	Right string `json:"right,omitempty"`
}

// prove returns the root over leaves and the way there from one of them.
func prove(leaves [][32]byte, index int) (root [32]byte, way []step) {
	level := leaves
	for len(level) > 1 {
		var up [][32]byte
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				up = append(up, level[i])
				continue
			}
			up = append(up, pair(level[i], level[i+1]))
		}
		if sibling := index ^ 1; sibling < index {
			way = append(way, step{Left: hexOf(level[sibling])})
		} else if sibling < len(level) {
			way = append(way, step{Right: hexOf(level[sibling])})
		}
		level, index = up, index/2
	}
	return level[0], way
}

func pair(a, b [32]byte) [32]byte {
	h := sha256.New()
	h.Write(a[:])
	h.Write(b[:])
	return [32]byte(h.Sum(nil))
}
