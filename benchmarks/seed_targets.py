"""What the six systems promise, as claims about pairs of cases; `benchmarks.seed_tables` judges them."""

from dataclasses import dataclass
from typing import Any

from benchmarks.seed_cases import LONGER


@dataclass(frozen=True)
class Claim:
    """Two cases and what the first must keep against the second.

    Attributes:
        result, baseline: names of cases.
        n_seeds: pairs.
        limit: largest increase of the error; a share of the baseline's where `relative`. None: only reported.
        sense: "mean" and "upper" compare the mean increase, or the upper end of its interval, with the limit;
            "better" asks for a decrease with p < 0.05.
        quantity: what is compared: the test "error", or one of `zeros`, `memory`, `weights`, `parameters` and
            `weights_12` of the result: its kernels' bits against the baseline's in words of 12.
        least: that such a quantity must reach.
    """

    system: str
    text: str
    result: str
    baseline: str
    n_seeds: int = 3
    limit: float | None = None
    relative: bool = False
    sense: str = "mean"
    quantity: str = "error"
    least: float = 0.0
    note: str = ""


def error(system: str, text: str, result: str, baseline: str, limit: float | None, **more: Any) -> Claim:
    """A claim about test errors."""
    return Claim(system, text, result, baseline, limit=limit, **more)


def reaches(system: str, text: str, result: str, baseline: str, quantity: str, least: float, **more: Any) -> Claim:
    """A claim about what is saved."""
    return Claim(system, text, result, baseline, quantity=quantity, least=least, **more)


POINT = 0.01
CLAIMS = (
    reaches("hybrid_circulant", "> 95 % of the weight memory gone", "hybrid phones", "dense phones", "memory", 0.95),
    error("hybrid_circulant", "within 1 point", "hybrid phones", "dense phones", POINT),
    reaches("hybrid_circulant", "> 95 % of the weight memory gone", "hybrid chars", "dense chars", "memory", 0.95),
    error(
        "hybrid_circulant",
        "within 2 % bpc",
        "hybrid chars",
        "dense chars",
        0.02,
        relative=True,
        note="a quarter of the words costs 5 % by itself, in float and with exact functions (validation data): three "
        "epochs are too few for it. Tried and no better: other rates, no dense parent, an epoch each by ADMM (10 %)",
    ),
    reaches("sparse_state", "> 90 % zero state entries", "sparse chars", "dense chars", "zeros", 0.9),
    error(
        "sparse_state",
        "within 1 % bpc",
        "sparse chars",
        "dense chars",
        0.01,
        relative=True,
        note="holds on the validation text, on which the recipe was chosen, but not on the test text. Tried on "
        "validation data and no better: a dense parent, another penalty",
    ),
    reaches("sparse_state", "> 90 % zero state entries", "sparse words", "dense words", "zeros", 0.9),
    error(
        "sparse_state",
        "within 1 % perplexity",
        "sparse words",
        "dense words",
        0.01,
        relative=True,
        note="25 of 256 states are left. Tried on validation data and no better: no dense parent. Dense networks "
        "differ by 3 % there from seed to seed",
    ),
    reaches("sparse_state", "> 90 % zero state entries", "sparse rows", "dense rows", "zeros", 0.9),
    error(
        "sparse_state",
        "within 0.5 point",
        "sparse rows",
        "dense rows",
        0.005,
        note="23 of 256 states are left; the paper's figure for rows of digits is 83 % zeros (recalled). Tried on "
        "validation data and no better: a larger threshold (15 % wrong), other penalties, no dense parent",
    ),
    reaches("ternary", "weights 12x less than 12 bits", "binary linux", "dense linux", "weights_12", 12.0),
    error("ternary", "ternary within 0.05 bpc", "ternary linux", "dense linux", 0.05),
    error(
        "ternary",
        "binary within 0.08 bpc",
        "binary linux",
        "dense linux",
        0.08,
        note="two epochs with one bit a word. Tried on validation data and no better: words drawn at every use "
        "(+0.02), half the rate after the dense epoch (+0.01)",
    ),
    error(
        "ternary",
        "ternary against float with batch_norm",
        "ternary linux",
        "dense linux, batch_norm",
        None,
        n_seeds=1,
    ),
    error("ternary", "ternary, words drawn at every use", "ternary linux, drawn", "dense linux", None, n_seeds=1),
    error("ternary", "binary, words drawn at every use", "binary linux, drawn", "dense linux", None, n_seeds=1),
    error("ternary", "plain BinaryConnect beside it", "binaryconnect linux", "dense linux", None, n_seeds=1),
    *(
        claim
        for cell in ("lstm", "gru")
        for claim in (
            error(
                "ernn", "ADMM better than direct", f"admm {cell} 8", f"direct {cell} 8", 0.0, sense="better", n_seeds=10
            ),
            error(
                "ernn",
                "block 8 within 1 point",
                f"admm {cell} 8",
                f"dense {cell}",
                POINT,
                sense="upper",
                n_seeds=5,
                note="256 cells with an eighth of the words fit the training data worse; the paper's have 1,024 "
                "cells. Tried on validation data and no better: longer and shorter phases, other rates, a growing rho",
            ),
            error("ernn", "block 16 reported", f"admm {cell} 16", f"dense {cell}", None),
        )
    ),
    reaches("hcgs", "16x fewer weights", "hcgs phones", LONGER["dense phones"], "weights", 16.0),
    error(
        "hcgs",
        "within 1 point",
        "hcgs phones",
        LONGER["dense phones"],
        POINT,
        note="drawn to the random blocks by ADMM, E-RNN's method; the paper trains in the blocks from the start. A "
        "sixteenth of the words fits the training data worse. Tried on validation data and no better: a longer last "
        "phase, retraining after a projection without ADMM",
    ),
    error("hcgs", "trained directly, as the paper does", "hcgs phones, directly", LONGER["dense phones"], None),
    error("hcgs", "magnitude blocks at equal bits beside it", "magnitude phones", LONGER["dense phones"], None),
    error("hcgs", "unstructured at equal bits beside it", "unstructured phones", LONGER["dense phones"], None),
    reaches("fdht", "> 1000x fewer parameters", "fdht video", "dense video", "parameters", 1000.0),
    error(
        "fdht",
        "accuracy at least dense's",
        "fdht video",
        "dense video",
        0.0,
        note="the recurrent kernel in this form costs more than the input kernel gains: see the rows with a dense and "
        "a circulant one. The test part has 400 clips, one standard error is 1.6 points",
    ),
    error(
        "fdht",
        "accuracy above tensor-train's",
        "fdht video",
        "tensor_train video",
        0.0,
        note="tensor-train leaves the recurrent kernel dense. In hierarchical Tucker form that kernel costs 3.5 points "
        "(validation data, three seeds). Ranks of 16 there or batches of 8 gain 0.7 point at most; other rates and "
        "normalisation: no better",
    ),
    error(
        "fdht",
        "the same with a dense recurrent kernel, too",
        "fdht video, input alone",
        "tensor_train video",
        None,
    ),
    reaches(
        "fdht",
        "> 1000x fewer with a circulant recurrent kernel",
        "fdht video, circulant recurrence",
        "dense video",
        "parameters",
        1000.0,
    ),
    *(
        error(
            "fdht",
            f"circulant recurrent kernel, against {text}",
            "fdht video, circulant recurrence",
            case,
            None,
            note="tried after FDHT's own kernels had missed, kept for its validation error",
        )
        for text, case in (("dense", "dense video"), ("tensor-train", "tensor_train video"))
    ),
)
