package postgres

// Serializable has commits run as they do in databases that know no weaker isolation.
func (s *Store) Serializable() { s.begin = "BEGIN ISOLATION LEVEL SERIALIZABLE" }

// Attempts is how often a commit is tried.
const Attempts = attempts
