"""What makes the bundled sample and the README table, and sweeps that only benchmarks and tests use."""
