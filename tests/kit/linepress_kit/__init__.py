"""Stand-ins and helpers that tests of linepress, and of packages built on it, may import."""
