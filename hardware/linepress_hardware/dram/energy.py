"""Energy of a run by counting commands; figures, sources and what each includes stand in the part's data file.

One boundary for every memory: the device (rows, columns, refresh, its own data path). What drivers, receivers and PHY
of both ends take on top is ``phy``, apart, and missing where nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from linepress_hardware.dram.parts import Part

PHY = "phy"
REFRESHES_PER_WINDOW = 8192  # all-bank refresh commands in which every row is refreshed once (JEDEC families here)


def energy_pJ(part: Part, commands: Mapping[str, int], sim_time_ns: float) -> dict[str, float]:
    """Energy by kind of command.

    Activate and precharge count together, at the activate. A refresh costs one activate for each row it refreshes
    (rows × banks / 8,192 for an all-bank refresh) unless the file gives ``refresh_pJ``. ``background`` appears only
    where the file gives a standby power. Keys without a figure in the file are left out.
    """
    figures = part.energy
    atom_bits = 8 * part.atom_bytes
    out: dict[str, float] = {}
    activate = figures.get("activate_pJ")
    if activate is not None:
        out["activate"] = activate * commands.get("ACT", 0)
    for kind, names in (("read", ("RD", "RDA")), ("write", ("WR", "WRA"))):
        per_bit = figures.get(f"{kind}_pJ_per_bit")
        if per_bit is not None:
            out[kind] = per_bit * atom_bits * sum(commands.get(name, 0) for name in names)
    if "phy_pJ_per_bit" in figures:
        out[PHY] = figures["phy_pJ_per_bit"] * atom_bits * sum(commands.get(c, 0) for c in ("RD", "RDA", "WR", "WRA"))
    rows_per_bank = part.rows / REFRESHES_PER_WINDOW
    per_bank = figures.get("refresh_pJ")
    if per_bank is not None:
        per_bank /= part.banks / part.scopes
    elif activate is not None:
        per_bank = activate * rows_per_bank
    if per_bank is not None:
        out["refresh"] = per_bank * (commands.get("REFA", 0) * part.banks / part.scopes + commands.get("REFB", 0))
    if "background_mW" in figures:
        out["background"] = figures["background_mW"] * sim_time_ns  # mW × ns = pJ
    return out
