"""Decoders, encoders and placement units as RTL: generators in Amaranth, proven by simulation, sized by synthesis.

Needs the extra ``rtl`` (amaranth, pyosys); nothing else of the project imports this package at start.
"""
