"""When the serial core streams which columns, and the cycles that takes.

Rows run in chunks of P, the gates of a chunk one after another; a pass streams the columns of one
gate of one chunk, and the accumulators drain through a single element-wise pipeline under the next
pass, which therefore lasts P cycles at least. Cycles from start to done, loading of x excluded, for
an LSTM layer that streams L columns (kept ones only where a kernel is coarse-grain):

    cycles = scan + 4 * (H / P) * max(L, P) - max(0, P - L) + P + 19

It was exact, cycle for cycle, in all 174 configurations of the core that were simulated; the core's
Verilog is not part of this release, so nothing here proves it yet. The GRU runs r and z over x
and h, then its candidate's two products apart: four passes of L, L, L_x and L_h columns.

With a state threshold the core first scans for non-zero blocks (scan = number of blocks + 1) and
streams only these. The figure is the mean of the step's own formula over the measured histogram; x
counts as all non-zero, and without activity the state does too, which is the worst case. A
coarse-grain recurrent kernel has static selectors and skips nothing.
"""

from dataclasses import dataclass

import numpy as np

from codesign.hardware.cost import Array, Parts
from codesign.hardware.workload import Workload

PIPELINE = 19
"""Cycles from the last accumulation of a step to its last output, less the P of the drain."""

PASSES = {"lstm": ((1, 1),) * 4, "gru": ((1, 1), (1, 1), (1, 0), (0, 1))}
"""Passes of a chunk, in order, each over (x, h); the GRU's candidate needs its two products apart."""


@dataclass(frozen=True)
class Stream:
    """What a layer streams.

    Attributes:
        lengths: columns by pass of a chunk and by kind of step, (n_passes, n_kinds).
        shares: how often each kind of step occurs, (n_kinds,); a kind is a number of non-zero blocks.
        input_columns, recurrent_columns: columns of all passes of one chunk, mean over steps.
        scan: cycles of the scan for non-zero blocks.
    """

    lengths: Array
    shares: Array
    input_columns: float
    recurrent_columns: float
    scan: int


def stream_layer(workload: Workload, index: int) -> Stream:
    """The columns that layer `index` streams."""
    layer = workload.layers[index]
    x, h = layer.input_kernel, layer.recurrent_kernel
    skips = workload.skips_state and h.structure != "coarse_grain"
    blocks, shares = np.array([h.row_macs // h.block_size]), np.ones(1)
    scan = 0
    if skips:
        known = x.structure == "coarse_grain" or x.one_hot  # which columns of x are needed
        scan = (0 if known else x.row_macs // x.block_size) + int(blocks[0]) + 1
    if skips and workload.activity is not None and h.block_size in workload.activity[index].get(1, {}):
        shares = np.array(workload.activity[index][1][h.block_size])
        blocks = np.arange(len(shares))
    # a pass always streams a column: an all-zero state still takes one block where it stands alone
    passes = PASSES[workload.cell]
    recurrent = [uses_h * h.block_size * np.maximum(blocks, 0 if uses_x else 1) for uses_x, uses_h in passes]
    uses = np.array([uses_x for uses_x, _ in passes])
    lengths = uses[:, None] * x.columns + np.stack(recurrent)
    mean = float((np.sum(recurrent, axis=0) * shares).sum())
    return Stream(lengths.astype(np.float64), shares, float(uses.sum() * x.columns), mean, scan)


def step_cycles(workload: Workload, streams: list[Stream], n_pe: Array) -> Parts:
    """Cycles of a step by what they are spent on."""
    n_chunks = np.ceil(workload.hidden / n_pe)
    zero = np.zeros_like(n_pe)
    parts = {name: zero for name in ("scan", "input_kernel", "recurrent_kernel", "drain")}
    for stream in streams:
        idle = [(np.maximum(0, n_pe[:, None] - length) * stream.shares).sum(-1) for length in stream.lengths]
        parts["scan"] = parts["scan"] + stream.scan
        parts["input_kernel"] = parts["input_kernel"] + n_chunks * stream.input_columns
        parts["recurrent_kernel"] = parts["recurrent_kernel"] + n_chunks * stream.recurrent_columns
        # the last pass of a step waits for nothing
        waits = n_chunks * sum(idle) - idle[-1]
        parts["drain"] = parts["drain"] + waits + n_pe + PIPELINE
    head_columns = workload.head.columns
    n_head = np.ceil(workload.head.rows / n_pe)
    wait = np.maximum(0, n_pe - head_columns)
    return parts | {"head": n_head * (head_columns + wait) - wait + n_pe + PIPELINE}
