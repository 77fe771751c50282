"""The memory behind a channel: what the channel needs to know of a part, and the call of its engine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.plan import RequestPlan
from linepress_hardware.dram.closed_forms import row_ns
from linepress_hardware.dram.mapping import mapping_for
from linepress_hardware.dram.policy import parse_policy
from linepress_hardware.dram.port import LineLoad, LineTimes, port_alone
from linepress_hardware.dram.results import DramResult
from linepress_hardware.dram.simple import SimplePart
from linepress_hardware.dram.simulate import load_memory, simulate_lines
from linepress_hardware.errors import ConfigurationError

GRANULE_BYTES = 32


@dataclass(frozen=True)
class Memory:
    """One channel of one memory part under one mapping and policy.

    Attributes
    ----------
    name : str
    part : Any
        What `linepress_hardware.dram` simulates.
    kind : str
        ``dram``, ``sram`` or ``hbf``.
    atom_bytes : int
        Bytes of one column access; the transfer granule of SRAM and flash.
    peak_GBps : float
        Pin bandwidth of the channel.
    capacity_bytes : int
        Bytes behind the channel.
    channels_per_device : int
        Channels of one stack, module or package.
    mapping, policy : str | None
        None: the part's own mapping, the default policy.
    """

    name: str
    part: Any
    kind: str
    atom_bytes: int
    peak_GBps: float
    capacity_bytes: int
    channels_per_device: int
    mapping: str | None = None
    policy: str | None = None
    idle_read_ns: float = 0.0
    """One atom read from a closed row: tRCD + tCL + burst, plus the mean wait for a refresh of its bank,
    tRFC² / (2 × the time between two)."""
    precharge_ns: float = 0.0
    """tRP where rows stay open and another one may have to close first."""
    column_ns: float = 0.0
    """tCCD_L: what each further atom of a row adds."""
    rows_forgotten_ns: float = 0.0
    """Time between two refreshes of a bank, over banks: the longer, the more likely a bank still has a row open that
    refresh has not closed."""
    period_ns: float = 0.0
    """A refresh interval, or as long as 200 idle reads where nothing is refreshed: batches of a run span whole
    ones."""
    run_bytes: int = 1 << 30
    """Aligned bytes that one activate serves: those that the mapping keeps in one row, or an atom where rows are
    closed at once."""
    row_ns: float = 0.0
    """Least mean time between two rows opened (`linepress_hardware.dram.closed_forms.row_ns`); 0: no rows."""
    outstanding: int | None = None
    """Requests that the memory is built to have in flight, where that is more than a DRAM port keeps (flash)."""

    @classmethod
    def load(cls, name: str, mapping: str | None = None, policy: str | None = None) -> Memory:
        """The part of this name; raises `UnknownPartError` for one that does not exist."""
        part = load_memory(name)
        if isinstance(part, SimplePart):
            return cls._simple(part, mapping, policy)
        chosen = parse_policy(policy).on(part.standard)
        place = mapping_for(part, mapping)
        idle = part.ns("RCDRD") + part.read_latency_ticks * part.tick_ns
        # A bank is shut for `stall_ns` every `period_ns`: with all others, or in its turn.
        stall_ns, period_ns = part.ns("RFCab"), part.ns("REFI")
        if chosen.refresh == "per_bank":
            stall_ns, period_ns = part.ns("RFCpb"), part.bank_refresh_ck * part.tck_ns * part.banks / part.scopes
        refreshed = chosen.refresh != "none"
        if refreshed:
            idle += stall_ns**2 / (2 * period_ns)
        return cls(
            name=part.name,
            part=part,
            kind="dram",
            atom_bytes=part.atom_bytes,
            peak_GBps=part.peak_GBps,
            capacity_bytes=part.capacity_bytes,
            channels_per_device=part.channels_per_device,
            mapping=mapping,
            policy=policy,
            idle_read_ns=idle,
            precharge_ns=part.ns("RP") if chosen.page == "open" else 0.0,
            column_ns=part.ns("CCDL"),
            rows_forgotten_ns=period_ns / part.banks if refreshed else float("inf"),
            period_ns=part.ns("REFI") if refreshed else 200 * idle,
            run_bytes=part.atom_bytes * (1 if chosen.page == "closed" else place.run_atoms),
            row_ns=row_ns(part),
        )

    @classmethod
    def _simple(cls, part: SimplePart, mapping: str | None, policy: str | None) -> Memory:
        """SRAM and flash: they move any number of bytes; the channel asks them for granules of 32 B."""
        if mapping is not None or policy is not None:
            raise ConfigurationError(f"{part.name} has no address mapping or policy; leave them out")
        return cls(
            name=part.name,
            part=part,
            kind=part.kind,
            atom_bytes=GRANULE_BYTES,
            peak_GBps=part.peak_GBps,
            capacity_bytes=part.capacity_bytes,
            channels_per_device=part.channels_per_device,
            idle_read_ns=part.idle_read_ns,
            period_ns=max(500.0, 2 * part.idle_read_ns),
            outstanding=int(part.values["outstanding"]),
        )

    def lone_read_ns(self, atoms: float, opens_per_ns: float) -> float:
        """Mean read of ``atoms`` of one row by one random access at a time.

        Rows are opened at ``opens_per_ns`` in banks at random and closed by refresh every tREFI, so a bank is found
        with another row open with probability 1 - (1 - e^-x)/x, x = opens_per_ns × tREFI / banks; tRP then comes
        first.
        """
        read_ns = self.idle_read_ns + max(0.0, atoms - 1.0) * self.column_ns
        if not self.precharge_ns:
            return read_ns
        x = opens_per_ns * self.rows_forgotten_ns
        found_open = 1.0 if math.isinf(x) else 1.0 - (1.0 - math.exp(-x)) / x if x > 0 else 0.0
        return read_ns + found_open * self.precharge_ns

    def simulate(
        self, plan: RequestPlan, load: LineLoad, after_delay_ns: NDArray[np.float64]
    ) -> tuple[DramResult, LineTimes]:
        """Run a plan behind its port; raises `ConfigurationError` where an address lies outside the part."""
        if not plan.requests:
            return self._nothing(), port_alone(load)
        end = int((plan.address_bytes.astype(np.int64) + plan.size_bytes).max())
        if end > self.capacity_bytes:
            raise ConfigurationError(
                f"{self.name}: data and metadata end at byte {end:,} but a channel holds {self.capacity_bytes:,} B; "
                "make the footprint smaller"
            )
        return simulate_lines(
            self.part,
            load,
            plan.address_bytes,
            plan.is_write,
            mapping=self.mapping,
            policy=self.policy,
            request_bytes=plan.size_bytes,
            after=plan.after,
            after_delay_ns=after_delay_ns,
        )

    def _nothing(self) -> DramResult:
        """A run in which no access reached the memory."""
        none = np.empty(0, np.float64)
        return DramResult(
            part=self.name,
            mapping=self.mapping or "",
            policy=self.policy or "",
            start_ns=none,
            finish_ns=none.copy(),
            arrival_ns=none.copy(),
            is_write=np.empty(0, np.bool_),
            bytes=0,
            bus_bytes=0,
            sim_time_ns=0.0,
            peak_GBps=self.peak_GBps,
            row_hits=0,
            atoms=0,
            forwarded_atoms=0,
            coalesced_atoms=0,
            commands={},
            bus_time_ns={},
            energy_pJ={},
        )
