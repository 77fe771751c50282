"""Benchmarks: one module an area, each with ``main(argv)``; raw samples go to ``benchmarks/results/``."""
