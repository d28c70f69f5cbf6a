"""What `benchmarks.training_speed` measured, against its aims, in tables for people."""

from statistics import median, quantiles
from typing import Any, NamedTuple

from benchmarks.speed_trial import BREVITAS, FEW_TRIALS, FLAX, FLOAT, JIT, LOOP, OURS, SETTLING, Shape


def spread(values: list[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return [float(value) for value in quantiles(values, n=4, method="inclusive")]


class Aim(NamedTuple):
    """That a ratio, the side's time over ours, should exceed; `required` where it must."""

    side: str
    least: float
    required: bool = False


REQUIRED = (Aim(LOOP, 1.0, True), Aim(BREVITAS, 1.0, True), Aim(JIT, 1.0, True), Aim(FLAX, 1.0, True))
STEP_AIMS = (*REQUIRED, Aim(LOOP, 2.0), Aim(BREVITAS, 10.0), Aim(JIT, 10.0), Aim(FLOAT, 1.0))
STUDY_AIMS = {300: (*STEP_AIMS, Aim(FLAX, 1.2)), 50: (*STEP_AIMS, Aim(FLAX, 2.0))}
WORKERS_AIM = 1.6


def verdict(where: str, aim: Aim, ratio: float, ours_ms: float, floor_ms: float) -> str:
    """A row of the table of aims."""
    met, missed = "yes", "-"
    if ratio < aim.least:
        met, theirs = "**no**", ours_ms * ratio
        missed = (
            f"short by {1 - ratio / aim.least:.0%}: ours {ours_ms:.1f} ms a step, {theirs / aim.least:.1f} wanted; "
            f"{floor_ms:.1f} for the products alone would be {theirs / floor_ms:.1f}x"
        )
    kind = "required" if aim.required else "aim"
    return f"| {where} | {aim.side} | {kind} | {aim.least:g}x | {ratio:.2f}x | {met} | {missed} |"


def markdown(parts: dict[str, Any], machine: dict[str, Any]) -> str:
    """The tables for people."""
    steps = [part["result"] for name, part in parts.items() if name.startswith("step")]
    studies = [part["result"] for name, part in parts.items() if name.startswith("study")]
    loads = [part["load_before"] for part in parts.values()]
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in machine["versions"].items())
    lines = [
        "# Training speed",
        "",
        "`python -m benchmarks.training_speed`: one LSTM layer and a linear head of 40 classes, cross-entropy at",
        "every frame, Adam, clipped gradient. codesign, the PyTorch loop and Flax train the same 8-bit network;",
        "Brevitas has its own 8-bit quantizers, torch.nn.LSTM none. All sides are interleaved: in A and B they take",
        "turns in one process on one core (Brevitas' JIT mode in a process beside it).",
        "",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, no accelerator used; {versions}.",
        f"Load average before a part, this benchmark's own included: {min(loads):.1f} to {max(loads):.1f}.",
        "",
        *_step_lines(steps),
        *_study_lines(studies),
        *_worker_lines(parts["workers"]["result"]),
        *_aim_lines(steps, studies, parts["workers"]["result"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _step_lines(steps: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## A. One optimizer step",
        "",
        "Median and quartiles over rounds; the ratio is the median of the rounds' own. The last column is the share",
        "of what the largest float32 product of XLA reaches on this core in the same rounds.",
        "",
        "| shape | side | ms a step | its time / ours | share of the GEMM peak |",
        "|---|---|---|---|---|",
    ]
    for row in steps:
        shape = Shape(**row["shape"])
        for name, times in row["step_s"].items():
            low, middle, high = (1e3 * value for value in spread(times))
            below, ratio, above = row["ratio"][name]
            ratios = "1" if name == OURS else f"{ratio:.2f} ({below:.2f} to {above:.2f})"
            share = f"{100 * row['share_of_peak'][name]:.0f} %"
            lines.append(f"| {shape} | {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {ratios} | {share} |")
        floor, peak = 1e3 * row["floor_s"], row["gemm_flops_per_s"][1] / 1e9
        lines.append(f"| {shape} | products alone at the peak ({peak:.0f} GFLOP/s) | {floor:.1f} | | 100 % |")
        lines += [f"| {shape} | {name} | {why} | | |" for name, why in row["failed"].items()]
    return [*lines, ""]


def _study_lines(studies: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## B. A study, compilation included",
        "",
        "Trials of other seeds and word lengths (8, 6, 4 bits), dense kernels; no compiled program is kept from",
        "before, and none on disk.",
        "",
        "| study | side | seconds | its time / ours | first trial, s | later trials, median s |",
        "|---|---|---|---|---|---|",
    ]
    for row in studies:
        what = f"{row['trials']} x {row['steps']} steps, {Shape(**row['shape'])}"
        for name, total in row["total_s"].items():
            first, *later = row["trial_s"][name]
            mark = " (extrapolated)" if name in row["extrapolated"] else ""
            rest = f"{median(later):.1f}" if later else "-"
            lines.append(f"| {what} | {name} | {total:.0f}{mark} | {row['ratio'][name]:.2f} | {first:.1f} | {rest} |")
    if any(row["extrapolated"] for row in studies):
        lines += [
            "",
            f"Extrapolated: one trial in {FEW_TRIALS}, of each its first {SETTLING} steps, in which the scales settle,",
            "and the rest at the pace of the two that follow.",
        ]
    return [*lines, ""]


def _worker_lines(row: dict[str, Any]) -> list[str]:
    lines = [
        "## C. Two workers",
        "",
        "The same search with a random sampler, the compile cache cold; one worker may use all cores. The whole search",
        "includes the start of the workers, compilation and the test of the front; the pace does not: it is taken from",
        "the first network that was trained to the last.",
        "",
        "| what | one worker | two workers | one / two |",
        "|---|---|---|---|",
    ]
    for name, what in (("search_s", "whole search, s"), ("network_s", "pace, s a network")):
        one, two = (", ".join(f"{run[name]:.1f}" for run in row["runs"][workers]) for workers in ("1", "2"))
        lines.append(f"| {what} | {one} | {two} | {', '.join(f'{ratio:.2f}' for ratio in row['ratio'][name])} |")
    return [*lines, ""]


def _aim_lines(steps: list[dict[str, Any]], studies: list[dict[str, Any]], workers: dict[str, Any]) -> list[str]:
    lines = [
        "## Aims",
        "",
        "| where | against | kind | wanted | measured | met | if missed |",
        "|---|---|---|---|---|---|---|",
    ]
    floors = {Shape(**row["shape"]): 1e3 * row["floor_s"] for row in steps}
    for row in steps:
        shape, ours = Shape(**row["shape"]), 1e3 * median(row["step_s"][OURS])
        for aim in STEP_AIMS:
            if aim.side in row["ratio"]:
                lines.append(verdict(f"step, {shape}", aim, row["ratio"][aim.side][1], ours, floors[shape]))
    for row in studies:
        ours = 1e3 * row["total_s"][OURS] / (row["trials"] * row["steps"])
        for aim in STUDY_AIMS.get(row["steps"], STEP_AIMS):
            if aim.side in row["ratio"]:
                floor = floors[Shape(**row["shape"])]
                lines.append(verdict(f"study, {row['steps']} steps", aim, row["ratio"][aim.side], ours, floor))
    ratio = median(workers["ratio"]["search_s"])
    met, short = ("yes", "-") if ratio >= WORKERS_AIM else ("**no**", f"short by {1 - ratio / WORKERS_AIM:.0%}")
    return [*lines, f"| search | one worker | aim | {WORKERS_AIM}x | {ratio:.2f}x | {met} | {short} |"]
