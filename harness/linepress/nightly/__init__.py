"""One command a night: run, compare with the last good run, gate, report."""
