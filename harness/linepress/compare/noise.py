"""What A/A runs say about the spread between runs: the figures of ``noise.toml``."""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Noise:
    """Figures of ``noise.toml``; log units are natural logarithms of times, so 0.01 is 1 %."""

    floor: float
    per_gap: float
    without_controls: float
    dof: float
    shortest_round_s: float
    fewest_tensors: int
    largest_drift: float
    most_blocks: int
    controls: dict[str, tuple[str, ...]]
    source: str
    between_processes: float

    def between_runs(self, gap: float, controlled: bool, history: float = 0.0) -> float:
        """Standard deviation of one run's log time.

        Parameters
        ----------
        gap : float
            Median log ratio of the second fastest to the fastest round.
        controlled : bool
            Whether the drift of control codecs is taken away.
        history : float
            The same standard deviation as found over earlier runs; it can only widen.
        """
        modelled = math.hypot(self.floor, self.per_gap * gap, 0.0 if controlled else self.without_controls)
        return max(modelled, history)


@functools.cache
def noise() -> Noise:
    """The packaged figures."""
    data = tomllib.loads(files("linepress.compare").joinpath("noise.toml").read_text(encoding="utf-8"))
    between, limits = data["between_runs"], data["limits"]
    return Noise(
        floor=between["floor"],
        per_gap=between["per_gap"],
        without_controls=between["without_controls"],
        dof=between["dof"],
        shortest_round_s=limits["shortest_round_s"],
        fewest_tensors=limits["fewest_tensors"],
        largest_drift=limits["largest_drift"],
        most_blocks=limits["most_blocks"],
        controls={name: tuple(packages) for name, packages in data["controls"].items()},
        source=between["source"],
        between_processes=data["between_processes"]["floor"],
    )
