"""Designs against vectors, clock by clock: in Amaranth's own simulator, or compiled with CXXRTL or verilator."""
