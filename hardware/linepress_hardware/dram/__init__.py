"""One memory channel: parts as data, an event-driven engine, an independent checker.

>>> from linepress_hardware.dram import load_part, pattern, simulate
>>> part = load_part("hbm3")
>>> trace = pattern("seq", 1000)
>>> result = simulate(part, trace.address_bytes, trace.is_write)
>>> result.bandwidth_GBps < part.peak_GBps
True
"""

from linepress_hardware.dram.checker import Violation, check_log
from linepress_hardware.dram.mapping import Mapping, mapping_for
from linepress_hardware.dram.parts import Part, load_part, memory_names, part_names, simple_names
from linepress_hardware.dram.policy import Policy, parse_policy
from linepress_hardware.dram.results import COMMANDS, LOSS_CAUSES, CommandLog, DramResult
from linepress_hardware.dram.simple import SimplePart, load_simple
from linepress_hardware.dram.simulate import load_memory, simulate
from linepress_hardware.dram.traces import PATTERNS, Trace, from_file, from_words, pattern

__all__ = [
    "COMMANDS",
    "LOSS_CAUSES",
    "PATTERNS",
    "CommandLog",
    "DramResult",
    "Mapping",
    "Part",
    "Policy",
    "SimplePart",
    "Trace",
    "Violation",
    "check_log",
    "from_file",
    "from_words",
    "load_memory",
    "load_part",
    "load_simple",
    "mapping_for",
    "memory_names",
    "parse_policy",
    "part_names",
    "pattern",
    "simple_names",
    "simulate",
]
