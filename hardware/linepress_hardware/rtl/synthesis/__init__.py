"""Designs to gates: levels and two-input gates by yosys alone, area and clock with a liberty file."""
