"""One memory channel: parts as data, an event-driven engine, an independent checker."""

from linepress_hardware.dram.results import COMMANDS, LOSS_CAUSES, CommandLog, DramResult

__all__ = ["COMMANDS", "LOSS_CAUSES", "CommandLog", "DramResult"]
