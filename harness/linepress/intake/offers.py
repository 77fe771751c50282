"""What a partner may choose: suites of the operator's list, memories and accelerators linepress knows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from linepress.intake.http.answers import RefusedError
from linepress.intake.settings import IntakeError
from linepress.suite.model import Suite, load_suite


class Offers:
    """The suites by name; each is read and checked once, when the service starts."""

    def __init__(self, suites: Sequence[str]) -> None:
        self.suites: dict[str, Suite] = {}
        for given in suites:
            suite = load_suite(given)
            if suite.name in self.suites:
                raise IntakeError(f"suite {suite.name} is offered twice; give each suite a name of its own")
            self.suites[suite.name] = suite
        if not self.suites:
            raise IntakeError("no suite is offered; give at least one with --suite")

    @cached_property
    def memories(self) -> tuple[str, ...]:
        """Names of memories a channel can be simulated with."""
        from linepress_hardware.dram.parts import memory_names

        return tuple(memory_names())

    @cached_property
    def accelerators(self) -> tuple[str, ...]:
        """Names of accelerators."""
        from linepress_hardware.catalog.accelerators import accelerators

        return tuple(sorted(accelerators()))

    def check(self, suite: str, memories: Sequence[str], accelerators: Sequence[str]) -> None:
        """Raise `RefusedError` (422) for a choice that is not on offer."""
        for what, wanted, known in (
            ("suite", [suite], tuple(self.suites)),
            ("memory", memories, self.memories),
            ("accelerator", accelerators, self.accelerators),
        ):
            for name in wanted:
                if name not in known:
                    raise RefusedError(
                        422, f"unknown_{what}", f"there is no {what} {name!r}; there are {', '.join(known)}"
                    )
