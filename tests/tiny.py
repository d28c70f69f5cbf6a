"""A study of seconds: one compile key, one epoch, designs that can and cannot run."""

import tomllib

import tomli_w

from codesign.search.space import SearchSpace, parse

TINY = """
name = "tiny"
task = { name = "ru_phones", subset = "mini" }

[network]
hidden = 8
state_threshold = [0.0, 0.1]
activation_function = "piecewise_linear"
input_kernel.structure = ["dense", { kind = "block_circulant", block_size = [2, 4] }]
input_kernel.weights = { kind = "fixed", bits = [4, 8] }

[[network.recurrent_kernel.structure]]
kind = "dense"

[[network.recurrent_kernel.structure]]
kind = "coarse_grain"
level1_block = 8
level1_keep = 1.0
level2_block = 4
level2_keep = 0.5

[recipe]
epochs = 1

[accelerator]
n_pe = [2, 4, 8, 16]

[search]
objectives = ["error", "latency_s"]
trials = 4
confirm_seeds = 2
"""


def tiny_space(epochs: int = 1, **search: object) -> SearchSpace:
    """The tiny space with other values in its [search] table."""
    tables = tomllib.loads(TINY)
    tables["recipe"]["epochs"] = epochs
    tables["search"] |= search
    return parse(tables, "tiny.toml", "tiny", tomli_w.dumps(tables))
