"""One compiled epoch for many networks: compilations, populations, schedule, loss and predictions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from codesign.compression import BlockCirculant, CoarseGrain
from codesign.design import ACTIVITY_BLOCKS, Fixed, Float, Kernel, Network, PiecewiseLinear, TaskShape
from codesign.models import RecurrentNetwork
from codesign.training.step import ADAM, Chunks, Member, Settings, learning_rate, loss, predict, split, train_epoch
from tests.strategies import EXAMPLES

N, TIME, INPUTS, HIDDEN, OUTPUTS = 8, 7, 8, 8, 4
BATCH = 4


def chunks(n: int = N, seed: int = 0) -> Chunks:
    """Random inputs whose class, one step late, is told by two of their signs."""
    x = np.random.default_rng(seed).uniform(-1, 1, (n, TIME, INPUTS)).astype(np.float32)
    y = np.zeros((n, TIME), np.int32)
    y[:, 1:] = ((x[..., 0] > 0) + 2 * (x[..., 1] > 0))[:, :-1]
    mask = np.ones((n, TIME), np.float32)
    mask[:, 0] = 0.0
    return Chunks(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask), jnp.asarray(mask))


DATA = chunks()


def member(
    network: Network, seed: int = 0, rate: float = 0.01, n_steps: int = 10, warmup: float = 0.0
) -> tuple[Any, Member]:
    """The static graph and a population of one."""
    graph, params, traced = split(RecurrentNetwork(network, TaskShape(INPUTS, OUTPUTS), seed))
    settings = Settings(
        jnp.float32(rate), jnp.float32(n_steps), jnp.float32(warmup), jnp.float32(1.0), jnp.float32(0.0)
    )
    alone = Member(
        params, traced, ADAM.init(params), jax.random.key(seed), jnp.int32(0), settings, jnp.zeros(network.layers)
    )
    return graph, jax.tree.map(lambda leaf: leaf[None], alone)


def join(members: list[Member]) -> Member:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *members)


STRUCTURES = [example.structure for example in EXAMPLES.values()]
FORMATS = [Float(), *(Fixed(bits=bits) for bits in range(3, 17))]


def epoch(parts: tuple[Any, Member], data: Chunks = DATA) -> tuple[Member, jax.Array]:
    return train_epoch(parts[0], BATCH, False, parts[1], data)


STATIC: list[dict[str, Any]] = [
    {"cell": "gru"},
    {"cell": "lstm", "layers": 2, "activation_function": PiecewiseLinear(segments=16)},
]


@pytest.mark.parametrize("static", STATIC, ids=["gru", "lstm of 2 layers"])
def test_all_that_may_differ_between_trials_shares_one_compilation(static: dict[str, Any]) -> None:
    epoch(member(Network(hidden=HIDDEN, **static)))
    before = train_epoch._cache_size()
    for index, structure in enumerate(STRUCTURES):
        network = Network(
            hidden=HIDDEN,
            input_kernel=Kernel(structure=structure, weights=FORMATS[2 * index]),
            recurrent_kernel=Kernel(structure=STRUCTURES[index - 1], weights=FORMATS[-1 - index]),
            head_weights=FORMATS[index],
            activations=FORMATS[-index],
            state_threshold=0.05 * index,
            **static,
        )
        epoch(member(network, seed=index, rate=0.01 * (index + 1), n_steps=10 + index, warmup=0.1 * index))
    assert train_epoch._cache_size() == before


@pytest.mark.parametrize(
    "static", [{"cell": "lstm"}, {"activation_function": PiecewiseLinear(segments=4)}], ids=["cell", "segments"]
)
def test_what_is_static_costs_one_compilation_more(static: dict[str, Any]) -> None:
    epoch(member(Network(hidden=HIDDEN)))
    before = train_epoch._cache_size()
    for seed in range(2):
        epoch(member(Network(hidden=HIDDEN, **static), seed=seed))
        assert train_epoch._cache_size() == before + 1


FREE = Kernel(weights=Float())
COARSE = CoarseGrain(level1_block=4, level1_keep=0.5, level2_block=2, level2_keep=0.5)


def plain(**fields: Any) -> Network:
    """A network without rounding, so that two ways to sum differ by little."""
    kernels = {"input_kernel": FREE, "recurrent_kernel": FREE, "head_weights": Float()}
    return Network(**(kernels | {"hidden": HIDDEN, "activations": Float()} | fields))


def test_a_population_trains_like_its_members_alone() -> None:
    networks = [
        plain(),
        plain(recurrent_kernel=Kernel(structure=BlockCirculant(block_size=4), weights=Float()), state_threshold=0.1),
        plain(input_kernel=Kernel(structure=COARSE, weights=Float())),
    ]
    rates = (0.003, 0.01, 0.02)
    parts = [member(network, seed, rate) for seed, (network, rate) in enumerate(zip(networks, rates, strict=True))]
    together, values = train_epoch(parts[0][0], N, False, join([alone for _, alone in parts]), DATA)
    for index, (graph, alone) in enumerate(parts):
        before = [np.asarray(leaf[0]) for leaf in jax.tree.leaves(alone.params)]
        expected, value = train_epoch(graph, N, False, alone, DATA)
        assert float(values[index]) == pytest.approx(float(value[0]), abs=1e-5)
        leaves = zip(jax.tree.leaves(together.params), jax.tree.leaves(expected.params), before, strict=True)
        for found, wanted, start in leaves:
            np.testing.assert_allclose(found[index], wanted[0], atol=1e-5)
            if start.ndim:  # all but the thresholds, which no gradient moves
                assert np.abs(np.asarray(found[index]) - start).max() > 0.5 * rates[index]


def test_members_count_their_own_steps_and_shuffle_anew() -> None:
    parts = member(plain())
    start = parts[1]
    key = jax.random.key_data(start.key).tolist()
    after, _ = epoch(parts)
    assert after.step.tolist() == [2]
    assert jax.random.key_data(after.key).tolist() != key


def test_words_that_no_product_uses_are_not_trained() -> None:
    parts = member(plain(input_kernel=Kernel(structure=BlockCirculant(block_size=4), weights=Float())))
    live = np.asarray(parts[1].traced["layers"][0]["input_kernel"]["live"][0])
    after, _ = epoch(parts)
    words = np.asarray(after.params["layers"][0]["input_kernel"]["words"][0])
    assert not words[live == 0].any()
    assert words[live > 0].all()


def rates(n_steps: int, warmup: float, steps: list[int]) -> list[float]:
    settings = Settings(jnp.float32(0.2), jnp.float32(n_steps), jnp.float32(warmup), jnp.float32(1.0), jnp.float32(0.0))
    return [float(learning_rate(settings, jnp.int32(step))) for step in steps]


def test_the_learning_rate_rises_falls_and_ends_at_zero() -> None:
    # 20 steps of 100 warm up: 1/20, 10/20, 20/20 of the peak; then a cosine over the other 80.
    found = rates(100, 0.2, [0, 9, 19, 20, 40, 60, 80, 100])
    half = 0.5**0.5
    shares = [0.05, 0.5, 1.0, 1.0, 0.5 * (1 + half), 0.5, 0.5 * (1 - half), 0.0]
    np.testing.assert_allclose(found, 0.2 * np.array(shares), atol=1e-7)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    np.testing.assert_allclose(rates(10, 0.0, [0, 5, 10]), [0.2, 0.1, 0.0], atol=1e-7)


def test_every_step_that_is_done_has_a_rate_above_zero() -> None:
    assert min(rates(7, 0.1, list(range(7)))) > 0


compiled_loss = jax.jit(loss, static_argnums=0)


def test_the_loss_is_the_mean_cross_entropy_of_counted_steps() -> None:
    graph, params, traced = split(RecurrentNetwork(plain(), TaskShape(INPUTS, OUTPUTS), 0))
    log_probabilities = np.asarray(
        predict(graph, params, traced, DATA.x, DATA.y, None, True).log_probabilities, np.float64
    )
    np.testing.assert_allclose(np.exp(log_probabilities).sum(-1), 1.0, atol=1e-5)
    counted = [
        -log_probabilities[row, t, int(DATA.y[row, t])] for row in range(N) for t in range(TIME) if DATA.mask[row, t]
    ]
    assert len(counted) == N * (TIME - 1)
    assert float(compiled_loss(graph, params, traced, DATA)[0]) == pytest.approx(np.mean(counted), abs=1e-5)


@pytest.mark.parametrize("axis", [0, 1], ids=["sequences", "steps"])
def test_padding_leaves_the_loss_as_it_is(axis: int) -> None:
    graph, params, traced = split(RecurrentNetwork(plain(), TaskShape(INPUTS, OUTPUTS), 0))
    noise = chunks(seed=1)._replace(mask=jnp.zeros((N, TIME)))
    padded = Chunks(*(jnp.concatenate(pair, axis) for pair in zip(DATA, noise, strict=True)))
    value, same = (float(compiled_loss(graph, params, traced, data)[0]) for data in (DATA, padded))
    assert same == pytest.approx(value, abs=1e-6)


def test_a_batch_without_a_counted_step_has_no_loss() -> None:
    graph, params, traced = split(RecurrentNetwork(plain(), TaskShape(INPUTS, OUTPUTS), 0))
    assert float(compiled_loss(graph, params, traced, DATA._replace(mask=jnp.zeros((N, TIME))))[0]) == 0.0


def test_a_compressed_network_learns() -> None:
    network = Network(
        hidden=8,
        input_kernel=Kernel(structure=BlockCirculant(block_size=2), weights=Fixed(bits=6)),
        recurrent_kernel=Kernel(structure=COARSE, weights=Fixed(bits=4)),
    )
    graph, state = member(network, rate=0.05, n_steps=60 * N // BATCH)
    losses = []
    for _ in range(60):
        state, value = epoch((graph, state))
        losses.append(float(value[0]))
    assert losses[0] > 1.2  # four classes, so log 4 = 1.39 by guessing
    assert losses[-1] < 0.5 * losses[0]


def test_blocks_that_are_not_zero_are_counted_as_by_hand() -> None:
    hidden = 20  # no multiple of 8 or 16
    model = RecurrentNetwork(Network(hidden=hidden, layers=2, state_threshold=0.2), TaskShape(INPUTS, OUTPUTS), 0)
    _, states, *_ = nnx.jit(lambda model, x: model(x))(model, DATA.x.swapaxes(0, 1))
    prediction = predict(*split(model), DATA.x, DATA.y, None, False)
    for layer, h in zip(prediction.nonzero_blocks, states, strict=True):
        assert (np.asarray(h) == 0).any()
        for streams, found in layer.items():
            groups = N // streams
            # (time, groups, hidden): a group's entry is active if it is in any of its streams
            active = np.stack([np.asarray(h)[:, g * streams : (g + 1) * streams].any(1) for g in range(groups)], 1)
            for block, counted in zip(ACTIVITY_BLOCKS, found, strict=True):
                starts = range(0, hidden, block)
                expected = sum(active[..., start : start + block].any(-1).astype(int) for start in starts)
                np.testing.assert_array_equal(counted, expected.T)
