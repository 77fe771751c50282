"""The engine's arrays, built: columns are named in `engine`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram import engine as e

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spec:
    """A part under a policy, as `compiled.compile_part` makes it; every array int64, times in ticks.

    Attributes
    ----------
    part : [N_PART]
        Counts, latencies and policy, then where each command's rules start.
    rules : [4, rules]
        Level, held command, ticks and kind (0: same node, 1: from the fourth-last, 2: the other nodes, 3: from the
        32nd-last), by first command.
    path : [banks, N_PATH]
        Nodes of a bank on the five levels, its pseudo channel, its scope.
    node_low, node_high : [nodes]
        Range of the nodes under the same parent.
    scope_node : [scopes]
    """

    part: I64
    rules: I64
    path: I64
    node_low: I64
    node_high: I64
    scope_node: I64


@dataclass(frozen=True, slots=True)
class Machine:
    """A channel at rest, every row closed, with room for ``log.shape[0]`` logged commands."""

    node: I64
    bank: I64
    scope: I64
    bus: I64
    fifo: I64
    queue: I64
    z: I64
    log: I64


def new_machine(spec: Spec, log_room: int) -> Machine:
    banks, scopes = spec.path.shape[0], spec.scope_node.shape[0]
    nodes = spec.node_low.shape[0]
    node = np.zeros((e.N_NODE, nodes), np.int64)
    node[e.N_PAST : e.N_PAST + 3] = node[e.N_RING : e.N_RING + e.LONG] = -1
    node[e.N_LOW], node[e.N_HIGH] = spec.node_low, spec.node_high
    bank = np.zeros((banks, e.N_BANK), np.int64)
    bank[:, [e.B_ROW, e.B_REF_BEGIN, e.B_REF_END, e.B_HEAD_READ, e.B_HEAD_WRITE]] = -1
    bank[:, [e.B_DEADLINE, e.B_CLOSE]] = e.INF
    scope = np.zeros((scopes, e.N_SCOPE), np.int64)
    scope[:, e.S_NODE] = spec.scope_node
    size = max(int(spec.part[e.P_READS]), int(spec.part[e.P_WRITES]), banks) + 1
    queue = np.zeros((4, e.N_QUEUE, size), np.int64)
    queue[:, e.Q_FREE, :] = np.arange(size)
    queue[:, e.Q_KEY, :] = e.INF * 64
    z = np.zeros(e.N_SCALARS, np.int64)
    z[[e.Z_CURRENT, e.Z_CAS_QUEUE, e.Z_FIFO_SINCE, e.Z_FIFO_UNTIL]] = -1
    z[e.Z_LEAST : e.Z_COMMANDS] = e.INF
    z[e.Z_CLOSE] = e.INF
    return Machine(
        node=node,
        bank=bank,
        scope=scope,
        bus=np.zeros((int(spec.path[:, e.PATH_PSEUDO].max()) + 1, e.N_BUS), np.int64),
        fifo=np.zeros(max(4096, 4 * banks), np.int64),
        queue=queue,
        z=z,
        log=np.empty((log_room, 4), np.int64),
    )
