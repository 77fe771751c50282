"""Arguments that the verbs of ``linepress fabric`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from linepress.api.named import topology_named
from linepress.errors import LinepressError

if TYPE_CHECKING:
    from linepress_hardware.fabric.topologies import Topology


def sides(text: str | None) -> tuple[int, ...]:
    """``8x8`` as (8, 8)."""
    if not text:
        return ()
    try:
        return tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        raise LinepressError(f"dimensions {text!r} are no whole numbers; write them like 8x8") from None


def wired(kind: str, n: int | None, link: str, switch: str, planes: int, dims: str | None, over: float) -> Topology:
    """A packaged topology by name, or one of parts by its kind."""
    from linepress_hardware.fabric.topologies import KINDS, custom

    if kind not in KINDS:
        return topology_named(kind, n)
    return custom(
        kind,
        n or 64,
        link_name=link,
        switch_name=switch,
        planes=planes,
        dims=sides(dims),
        oversubscription=over,
    )


def parts_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say of which parts a topology is made."""
    for option in (
        click.option("--oversubscription", "over", type=float, default=1.0, help="Leaf down-links over up-links."),
        click.option("--dims", default=None, help="Sides of a torus, for instance 8x8."),
        click.option("--planes", type=int, default=1, show_default=True, help="Parallel switch planes."),
        click.option("--switch", default="ualink-50t", show_default=True, help="Switch of data/switches."),
        click.option("--link", default="ualink-800g", show_default=True, help="Link of data/links."),
        click.option("-n", "--accelerators", "n", type=int, default=None, help="Accelerators."),
    ):
        function = option(function)
    return function
