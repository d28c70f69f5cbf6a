"""One self-contained HTML page about a study: plots to hover over, the front, where it came from."""

from collections import Counter
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from codesign.errors import InputError
from codesign.inspect.plots import COLOURS
from codesign.inspect.tables import axis_label, columns, describe
from codesign.search.records import REFUSED
from codesign.search.results import FrontRow, Results
from codesign.tasks import SHARE

SYMBOLS = {"lstm": "square", "gru": "circle"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #2e3440; margin: 2em auto; max-width: 1180px; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1em }
@media (max-width: 900px) { .plots { grid-template-columns: minmax(0, 1fr) } }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
td, th { padding: .3em .7em; text-align: right; border-bottom: 1px solid #e5e9f0; white-space: nowrap }
td.text, th.text { text-align: left } tr.knee { background: #fdf6e3; font-weight: 600 }
pre { background: #f4f6f9; padding: 1em; overflow-x: auto; font-size: 12.5px }
"""


def write_report(results: Results, path: Path) -> None:
    """Write the page.

    Raises:
        InputError: if nothing is trained yet or the file cannot be written.
    """
    front = results.front()
    if not front:
        raise InputError(f"{results.folder}: no design is trained yet; run the search first")
    try:
        path.write_text(_page(results, front), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _page(results: Results, front: list[FrontRow]) -> str:
    task = results.task
    knee = results.knee(front)
    trials = results.records.trials()
    refused = [trial for trial in trials if trial.state == REFUSED]
    counts, networks = results.records.count_trials(), len({row.network_key for row in front})
    stopped = f"{counts['stopped']} more stopped at a rung, " if counts["stopped"] else ""
    plots = [
        _figure(results, front, knee, cost).to_html(
            full_html=False, include_plotlyjs=index == 0, config={"responsive": True, "displaylogo": False}
        )
        for index, cost in enumerate(results.objectives[1:])
    ]
    confirmed = front[0].error_test is not None
    seeds = (
        "Errors are means and standard deviations over seeds; the test data were looked at once, after the search."
        if confirmed
        else "The front is not confirmed yet: errors are those of a single seed."
    )
    reasons = Counter(trial.reasons[0] for trial in refused)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(results.space.name)}: front</title>
<style>{STYLE}</style></head><body>
<h1>{escape(results.space.name)}</h1>
<p>Task <b>{escape(task.label)}</b>: {escape(task.summary)}. Error: {escape(task.metric.what)}.
Data: {escape(results.records.get("data"))}.</p>
<p>{counts["trained"]} designs trained, {stopped}{len(refused)} refused by their analytic cost before any training;
the front has {len(front)} members, {networks} networks each on the accelerators where nothing is better,
and covers {100 * results.hypervolume(front):.1f} % of the box between the ideal
and the reference point. {seeds} {escape(results.enough() or "")}</p>
<div class="plots">{"".join(f"<div>{plot}</div>" for plot in plots)}</div>
<h2>The front</h2><div class="scroll">{_table(results, front, knee)}</div>
<p>The marked row is the knee: farthest from the plane through the extremes. Costs come from the analytic model,
at the activity that the trained network showed on validation data; of accelerators
only one was proposed with a network, the others were costed after its training. "on front" is the probability
that no other member dominates, given the spread of the seeds.</p>
<h2>Refused before training</h2>{_reasons(reasons)}
<h2>Search space</h2><pre>{escape(results.space.text)}</pre>
<h2>Environment</h2><pre>{escape(_environment(results))}</pre>
</body></html>
"""


def _figure(results: Results, front: list[FrontRow], knee: FrontRow, cost: str) -> go.Figure:
    figure, scale = go.Figure(), results.task.metric.scale
    members = {(row.network_key, row.design.accelerator) for row in front}
    others = [row for row in results.trained() if (row.network_key, row.design.accelerator) not in members]
    figure.add_scatter(
        x=[row.cost[cost] for row in others],
        y=[scale * row.error_search for row in others],
        mode="markers",
        name="dominated",
        marker={"color": "#c8ccd4", "size": 6},
        hovertext=[_hover(row, results) for row in others],
        hoverinfo="text",
    )
    for kind in dict.fromkeys(row.design.network.recurrent_kernel.structure.kind for row in front):
        rows = [row for row in front if row.design.network.recurrent_kernel.structure.kind == kind]
        figure.add_scatter(
            x=[row.cost[cost] for row in rows],
            y=[scale * row.error_val for row in rows],
            error_y={"array": [scale * (row.error_val_std or 0.0) for row in rows], "thickness": 1},
            mode="markers",
            name=f"{kind} recurrent kernel",
            marker={
                "color": COLOURS.get(kind, "#333"),
                "size": [15 if row is knee else 9 for row in rows],
                "symbol": [SYMBOLS[row.design.network.cell] for row in rows],
            },
            hovertext=[_hover(row, results) for row in rows],
            hoverinfo="text",
        )
    figure.update_layout(
        template="plotly_white",
        height=440,
        margin={"l": 60, "r": 10, "t": 30, "b": 50},
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
        xaxis={"type": "log", "title": axis_label(cost)},
        yaxis={"title": f"validation {results.task.metric.title}"},
    )
    return figure


def _hover(row: FrontRow, results: Results) -> str:
    cells = columns(row, results.objectives, results.task.metric)
    return "<br>".join(f"{escape(title)}: {escape(value)}" for title, value in cells.items())


def _table(results: Results, front: list[FrontRow], knee: FrontRow) -> str:
    text = set(describe(front[0])) - {"PEs", "threshold"}
    titles = [
        *columns(front[0], results.objectives, results.task.metric),
        *(f"{name}, % (test)" for name in _extra(front[0])),
    ]
    head = "".join(f'<th class="{"text" if title in text else ""}">{escape(title)}</th>' for title in titles)
    body = []
    for row in front:
        extra = {name: SHARE.text((row.test_metrics or {}).get(name)) for name in _extra(row)}
        cells = columns(row, results.objectives, results.task.metric) | extra
        tds = "".join(
            f'<td class="{"text" if title in text else ""}">{escape(cell)}</td>' for title, cell in cells.items()
        )
        body.append(f'<tr class="{"knee" if row is knee else ""}">{tds}</tr>')
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _extra(row: FrontRow) -> list[str]:
    return [name for name in row.metrics if name != "error"]


def _reasons(reasons: Counter[str]) -> str:
    if not reasons:
        return "<p>None.</p>"
    rows = "".join(f'<tr><td>{n}</td><td class="text">{escape(text)}</td></tr>' for text, n in reasons.most_common())
    return f"<table>{rows}</table>"


def _environment(results: Results) -> str:
    found = results.records.get("environment") or {}
    packages = found.pop("packages", {})
    return "\n".join(f"{name}: {value}" for name, value in [*found.items(), *packages.items()])
