"""Records to plotly figures. Each chart is a figure, or in words why there is nothing to draw.

    charts(history, roof)    -> name -> Chart

Figures carry the colours of the light page; palette.DARK says which ones a script puts in their place. A point that
stands for a candidate has its id as customdata, so that a script can show the candidate. Names and texts from outside
pass through words.plain, because plotly reads a part of HTML in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import plotly.graph_objects as go

from kernelevo.measure.limits import LIMITS
from kernelevo.records import STAGES
from kernelevo.report import roofline, tree
from kernelevo.report.credit import Progress, best_so_far, failures
from kernelevo.report.gather import History, Node
from kernelevo.report.palette import (
    ACCENT,
    EDGE,
    FAST,
    GRID,
    INK,
    MARKS,
    MIDDLE,
    MUTED,
    PAPER,
    SLOW,
    WAIT,
    mark_of,
)
from kernelevo.report.words import count, counted, duration, plain, seconds, times_faster

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
LABELLED = 30  # leaves up to which the nodes of the tree carry their speedup
CURVED = 300  # edges up to which they are curves
ROOFLINE_POINTS = 600
FEW = 25  # improvements, up to which their stars are large
CURVE = tuple(step / 16 for step in range(17))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One figure, and what it says to who does not see it."""

    title: str
    figure: go.Figure | None
    says: str  # one sentence; without a figure, why there is none


def charts(history: History, roof: roofline.Roof | None) -> dict[str, Chart]:
    """All of them, by the name of their place in the page."""
    return {
        "lineage": lineage(history),
        "evaluations": over_evaluations(history),
        "cost": over_cost(history),
        "behaviours": behaviours(history),
        "failures": failed(history),
        "stages": stages(history),
        "roofline": below_the_roof(history, roof),
    }


# --- lineage --------------------------------------------------------------------------------------------------------


def lineage(history: History) -> Chart:
    """A node for each candidate, by outcome; the way to the best stands out."""
    title = "Lineage"
    if not history.nodes:
        return Chart(title=title, figure=None, says="The run has no candidate yet.")
    drawn = tree.layout({node.id: node.job.parents for node in history.nodes.values()})
    best = history.best
    way = tree.path_to(best.id, drawn.edges) if best else []
    on_way = set(pairwise(way))
    figure = go.Figure(layout=look(height=min(max(300, 34 * drawn.rows + 90), 640)))
    straight = len(drawn.edges) > CURVED
    thin = 1.2 if len(drawn.edges) <= CURVED else 0.7 if len(drawn.edges) <= 3 * CURVED else 0.3
    inner = {parent for parent, _ in drawn.edges}
    figure.add_trace(lines(drawn, [e for e in drawn.edges if e not in on_way], EDGE, thin, straight=straight))
    figure.add_trace(lines(drawn, drawn.crossings, EDGE, 0.8 * thin, straight=straight, dash="dot"))
    figure.add_trace(lines(drawn, [e for e in drawn.edges if e in on_way], ACCENT, 3.0, straight=straight))
    for outcome, nodes in by_outcome(history).items():
        mark = mark_of(outcome)
        figure.add_trace(
            go.Scatter(
                x=[drawn.places[n.id].depth for n in nodes],
                y=[drawn.places[n.id].row for n in nodes],
                mode="markers+text" if drawn.rows <= LABELLED or outcome == "best" else "markers",
                name=outcome,
                text=[times_faster(history.over_seed(n)) if n.score_ns else "" for n in nodes],
                textposition=["top center" if n.id in inner else "middle right" for n in nodes],
                textfont={"size": 11, "color": MUTED},
                marker={
                    "symbol": mark.symbol,
                    "color": mark.light,
                    "size": [size_of(history, n, crowd=len(history.nodes)) for n in nodes],
                    "line": {"width": 1.5 if "open" in mark.symbol else 0.8, "color": mark.light},
                    "opacity": 1,
                },
                customdata=[n.id for n in nodes],
                hovertext=[hover(history, n) for n in nodes],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(
        title="steps from the seed kernel"
        + (f"; × its speed, {history.basis.kind.value.upper()}" if history.basis else ""),  # noqa: RUF001
        dtick=1 if depth_of(drawn) <= 12 else None,
        range=[-0.5, depth_of(drawn) + 0.6],
    )
    figure.update_yaxes(visible=False, range=[drawn.rows - 0.3, -0.8])
    figure.add_trace(  # the last one: a script moves it to the node that is looked at
        go.Scatter(
            x=[],
            y=[],
            mode="markers",
            marker={"symbol": "circle-open", "size": 30, "color": INK, "line": {"width": 2, "color": INK}},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    figure.update_layout(dragmode="pan", legend={"itemsizing": "constant"})
    return Chart(
        title=title,
        figure=figure,
        says=f"A tree of {len(history.nodes)} candidates, {depth_of(drawn)} steps deep. "
        + (f"The best, {best.id}, is {len(way) - 1} steps from its root." if best else "None has a time."),
    )


def depth_of(drawn: tree.Layout) -> int:
    return max(place.depth for place in drawn.places.values())


def size_of(history: History, node: Node, *, crowd: int) -> float:
    """Pixels: larger is faster."""
    full = 15.0 if crowd <= 200 else 10.0 if crowd <= 800 else 7.0
    ratio = history.over_seed(node)
    if node is history.best:
        return full + 7
    return full * 0.75 if ratio is None else full * min(max(0.8 + 0.5 * (ratio - 1), 0.7), 1.6)


def by_outcome(history: History) -> dict[str, list[Node]]:
    """Candidates by what the legend calls them, the best, which is one of its own, last."""
    found: dict[str, list[Node]] = {outcome: [] for outcome in MARKS}
    for node in history.nodes.values():
        found.setdefault(outcome_of(history, node), []).append(node)
    found["best"] = found.pop("best")  # drawn above all others
    return {outcome: nodes for outcome, nodes in found.items() if nodes}


def outcome_of(history: History, node: Node) -> str:
    if node is history.best:
        return "best"
    if node.status != "passed" or node.score_ns is not None:
        return node.status
    return "other timing" if node.evaluation and node.evaluation.timing else "no time"


def lines(
    drawn: tree.Layout,
    edges: Sequence[tuple[str, str]],
    colour: str,
    width: float,
    *,
    straight: bool,
    dash: str = "solid",
) -> go.Scatter:
    """Edges as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for parent, child in edges:
        a, b = drawn.places[parent], drawn.places[child]
        for step in (0.0, 1.0) if straight else CURVE:
            x.append(a.depth + step * (b.depth - a.depth))
            y.append(a.row + (step * step * (3 - 2 * step)) * (b.row - a.row))
        x.append(None)
        y.append(None)
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": width, "dash": dash}, hoverinfo="skip", showlegend=False
    )


def hover(history: History, node: Node) -> str:
    """What a node says: id, how it was made, what came of it."""
    made = "; ".join(node.changes) or node.plan
    told = [f"<b>{node.id}</b>", plain(f"#{node.job.iteration} {node.job.operator.value}: {made}", characters=90)]
    if node.score_ns is not None and history.basis:
        over = history.over_seed(node)
        told.append(f"{duration(node.score_ns)} {history.basis.kind.value.upper()}, {times_faster(over)} the seed")
    else:
        told.append(outcome_of(history, node))
        why = (node.evaluation.feedback if node.evaluation else node.reason) or ""
        told.append(plain(why, characters=90))
    return "<br>".join(line for line in told if line)


# --- progress -------------------------------------------------------------------------------------------------------


def over_evaluations(history: History) -> Chart:
    steps = best_so_far(history.steps)
    return curve(
        history,
        "Best so far, by evaluations",
        steps,
        [float(p.evaluations) for p in steps],
        "evaluations",
        "evaluations",
    )


def over_cost(history: History) -> Chart:
    """Over dollars where any are known, otherwise over seconds of work."""
    steps = best_so_far(history.steps)
    until = {step.iteration: position for position, step in enumerate(history.steps)}
    if history.cost.cost_usd > 0:
        spent = list(accumulate(step.cost_usd or 0.0 for step in history.steps))
        unknown = sum(step.cost_usd is None for step in history.steps)
        axis = "US dollars" + (f" (without {counted(unknown, 'iteration')} of unknown cost)" if unknown else "")
        x = [spent[until[p.step.iteration]] for p in steps]
        return curve(history, "Best so far, by dollars", steps, x, axis, "dollars", shown=lambda v: f"${v:.4f}")
    worked = list(accumulate(step.waited_seconds + step.evaluation_seconds for step in history.steps))
    unit, scale = (
        ("hours", 3600.0)
        if worked and worked[-1] > 7200
        else ("minutes", 60.0)
        if worked and worked[-1] > 300
        else ("seconds", 1.0)
    )
    return curve(
        history,
        "Best so far, by seconds of work",
        steps,
        [worked[until[p.step.iteration]] / scale for p in steps],
        f"{unit} of work, added up",
        unit,
        shown=lambda v: seconds(v * scale),
    )


def curve(
    history: History,
    title: str,
    steps: Sequence[Progress],
    x: Sequence[float],
    axis: str,
    unit: str,
    *,
    shown: Callable[[float], str] | None = None,
) -> Chart:
    """Steps down to the best; beneath it a strip of what has no time."""
    if history.basis is None or not any(p.best_ns for p in steps):
        return Chart(title=title, figure=None, says="No candidate has a time yet.")
    best_ns = min(p.best_ns for p in steps if p.best_ns)
    name, scale = unit_of(max(p.step.score_ns or 0.0 for p in steps))
    shown = shown or (lambda v: f"{v:g} {unit}")
    figure = go.Figure(layout=look(height=340))
    timed = [(p, at) for p, at in zip(steps, x, strict=True) if p.step.score_ns is not None]
    figure.add_trace(
        go.Scatter(
            x=[at for p, at in zip(steps, x, strict=True) if p.best_ns],
            y=[p.best_ns / scale for p in steps if p.best_ns],
            mode="lines",
            line={"color": ACCENT, "width": 2.5, "shape": "hv"},
            name="best so far",
            hoverinfo="skip",
        )
    )
    groups = {
        "passed": [(p, at) for p, at in timed if not p.improves],
        "best": [(p, at) for p, at in timed if p.improves],
    }
    best_size = 12 if len(groups["best"]) <= FEW else 8
    for outcome, points in groups.items():
        mark = mark_of(outcome)
        figure.add_trace(
            go.Scatter(
                x=[at for _, at in points],
                y=[p.step.score_ns / scale for p, _ in points if p.step.score_ns],
                mode="markers",
                name="new best" if outcome == "best" else outcome,
                marker={
                    "symbol": mark.symbol,
                    "color": mark.light,
                    "size": best_size if outcome == "best" else 7,
                    "opacity": 0.9,
                },
                customdata=[p.step.candidate for p, _ in points],
                hovertext=[
                    f"{shown(at)}<br>{hover(history, history.nodes[p.step.candidate or ''])}" for p, at in points
                ],
                hoverinfo="text",
            )
        )
    without = defaultdict(list)
    for p, at in zip(steps, x, strict=True):
        if p.step.score_ns is None:
            without[outcome_of(history, history.nodes[p.step.candidate or ""])].append((p, at))
    for outcome, points in sorted(without.items()):
        mark = mark_of(outcome)
        figure.add_trace(
            go.Scatter(
                x=[at for _, at in points],
                y=[0.5 for _ in points],
                yaxis="y2",
                mode="markers",
                name=outcome,
                marker={
                    "symbol": mark.symbol,
                    "color": mark.light,
                    "size": 9,
                    "line": {"width": 1, "color": mark.light},
                },
                customdata=[p.step.candidate for p, _ in points],
                hovertext=[
                    f"{shown(at)}<br>{hover(history, history.nodes[p.step.candidate or ''])}" for p, at in points
                ],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(title=axis, rangemode="tozero", anchor="y2" if without else "y")
    figure.update_layout(
        yaxis={"title": f"{name}, {history.basis.kind.value.upper()}", "domain": [0.16 if without else 0.0, 1]},
        yaxis2={"domain": [0, 0.1], "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return Chart(
        title=title,
        figure=figure,
        says=f"{counted(sum(p.improves for p in steps), 'improvement')} in {counted(len(steps), 'evaluation')}, "
        f"down to {duration(best_ns)} ({history.basis}).",
    )


def unit_of(nanoseconds: float) -> tuple[str, float]:
    """The unit for an axis up to so many nanoseconds."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= scale:
            return unit, scale
    return "ns", 1.0


# --- behaviours -----------------------------------------------------------------------------------------------------


def behaviours(history: History) -> Chart:
    """The best time of each cell of the grid, and how many candidates stand there."""
    title = "Behaviours"
    cells: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in history.timed:  # fastest first
        if node.evaluation and node.evaluation.behaviour:
            cells[node.evaluation.behaviour.technique, node.evaluation.behaviour.limited_by].append(node)
    if not cells or history.basis is None:
        return Chart(title=title, figure=None, says="No candidate with a time has a known behaviour.")
    techniques = sorted(
        {technique for technique, _ in cells},
        key=lambda t: min(n.score_ns or 0 for (a, _), ns in cells.items() if a == t for n in ns),
        reverse=True,
    )
    limits = [*LIMITS, *sorted({limit for _, limit in cells} - set(LIMITS))]
    _, scale = unit_of(max(nodes[0].score_ns or 0.0 for nodes in cells.values()))

    def cell(technique: str, limit: str) -> Node | None:
        return cells[technique, limit][0] if (technique, limit) in cells else None

    grid = [[cell(technique, limit) for limit in limits] for technique in techniques]
    figure = go.Figure(layout=look(height=max(330, 110 + 52 * len(techniques))))
    figure.add_trace(
        go.Heatmap(
            z=[[n.score_ns / scale if n and n.score_ns else None for n in row] for row in grid],
            x=[plain(limit) for limit in limits],
            y=[plain(technique).replace(" ", "<br>") for technique in techniques],  # for narrow screens
            text=[
                [
                    f"{duration(n.score_ns)}<br>{len(cells[technique, limit])}" if n else ""
                    for limit, n in zip(limits, row, strict=True)
                ]
                for technique, row in zip(techniques, grid, strict=True)
            ],
            texttemplate="%{text}",
            textfont={"size": 12},
            customdata=[[n.id if n else None for n in row] for row in grid],
            hovertext=[[hover(history, n) if n else "" for n in row] for row in grid],
            hoverinfo="text",
            colorscale=[[0, FAST], [0.5, MIDDLE], [1, SLOW]],
            xgap=3,
            ygap=3,
            showscale=False,
            hoverongaps=False,
        )
    )
    figure.update_xaxes(title=f"limited by ({history.basis.kind.value.upper()} times)", side="bottom", showgrid=False)
    figure.update_yaxes(showgrid=False, automargin=True)
    return Chart(
        title=title,
        figure=figure,
        says=f"{len(cells)} cells of the grid of what limits a candidate and its main technique; each with its best "
        f"time ({history.basis}) and its number of candidates. The strongest colour is the fastest.",
    )


# --- failures and time ----------------------------------------------------------------------------------------------


def failed(history: History) -> Chart:
    """Iterations without a time, by the stage that they ended in."""
    title = "Where iterations ended"
    found = failures(history.steps)
    if not found:
        return Chart(title=title, figure=None, says="Every iteration that was told ended with a time.")
    stages_ = list(dict.fromkeys(stage for stage, _ in found))[::-1]
    figure = go.Figure(layout=look(height=120 + 34 * len(stages_)))
    for outcome in dict.fromkeys(outcome for _, outcome in found):
        mark = mark_of(outcome)
        counts = [found.get((stage, outcome), 0) for stage in stages_]
        figure.add_trace(
            go.Bar(
                y=stages_,
                x=counts,
                orientation="h",
                name=outcome,
                marker={"color": mark.light, "line": {"color": PAPER, "width": 1}},
                text=[f"{n} {outcome}" if n else "" for n in counts],
                textposition="auto",
                hoverinfo="text",
                hovertext=[f"{stage}: {n} {outcome}" for stage, n in zip(stages_, counts, strict=True)],
            )
        )
    totals = {name: sum(n for (stage, _), n in found.items() if stage == name) for name in stages_}
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(title="iterations", rangemode="tozero", dtick=1 if max(totals.values()) <= 8 else None)
    figure.update_yaxes(showgrid=False, automargin=True, ticksuffix="  ")
    total = sum(found.values())
    return Chart(
        title=title, figure=figure, says=f"{total} of {counted(len(history.steps), 'iteration')} ended without a time."
    )


def stages(history: History) -> Chart:
    """Seconds by stage, those of models first."""
    title = "Where the seconds went"
    spent = stage_seconds(history)
    if not spent:
        return Chart(title=title, figure=None, says="Nothing was asked or evaluated yet.")
    names = list(spent)[::-1]
    figure = go.Figure(layout=look(height=110 + 28 * len(names)))
    figure.add_trace(
        go.Bar(
            y=names,
            x=[spent[name] for name in names],
            orientation="h",
            marker={"color": [WAIT if name not in STAGES else MARKS["passed"].light for name in names]},
            text=[seconds(spent[name]) for name in names],
            textposition="auto",
            hoverinfo="text",
            hovertext=[f"{name}: {seconds(spent[name])}" for name in names],
            showlegend=False,
        )
    )
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(title="seconds, added up", rangemode="tozero")
    figure.update_yaxes(showgrid=False, automargin=True, ticksuffix="  ")
    longest = max(spent, key=lambda name: spent[name])
    return Chart(
        title=title,
        figure=figure,
        says=f"{seconds(sum(spent.values()))} of work in all; the most, {seconds(spent[longest])}, in {longest}.",
    )


def stage_seconds(history: History) -> dict[str, float]:
    """What was waited for and done, in the order of an iteration."""
    waited = {f"{cost.purpose}: waiting": 0.0 for cost in history.models}
    for cost in history.models:
        waited[f"{cost.purpose}: waiting"] += cost.seconds
    return {name: s for name, s in waited.items() if s} | {total.name: total.seconds for total in history.stages}


# --- roofline -------------------------------------------------------------------------------------------------------


def below_the_roof(history: History, roof: roofline.Roof | None) -> Chart:
    """Candidates by the work they do for each byte, below what the GPU allows."""
    title = "Predicted roofline"
    found = roofline.points(history, roof)
    if isinstance(found, str) or roof is None:
        return Chart(title=title, figure=None, says=found if isinstance(found, str) else "")
    cases = list(dict.fromkeys(point.case for point in found))
    figure = go.Figure(layout=look(height=380))
    low = min(p.intensity for p in found) / 5
    low, high = min(low, roof.ridge / 5), max(4 * roof.ridge, *(p.intensity * 2 for p in found))
    figure.add_trace(
        go.Scatter(
            x=[low, roof.ridge, high],
            y=[roof.flops_at(x) for x in (low, roof.ridge, high)],
            mode="lines",
            line={"color": INK, "width": 2},
            name=f"{count(roof.dram_bytes_per_second)}B/s DRAM, {count(roof.flops_per_second)}FLOP/s float32",
            hoverinfo="skip",
        )
    )
    symbols = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon")
    special = [node for node in (history.seed, history.best) if node is not None]
    drawn = {node.id for node in history.timed[:ROOFLINE_POINTS]} | {node.id for node in special}
    shown = [p for p in found if p.node.id in drawn and p.node not in special]
    shown += [p for node in special for p in found if p.node is node]  # above the others
    for position, case in enumerate(cases):
        here = [p for p in shown if p.case == case]
        figure.add_trace(
            go.Scatter(
                x=[p.intensity for p in here],
                y=[p.flops_per_second for p in here],
                mode="markers",
                name=plain(case),
                marker={
                    "symbol": symbols[position % len(symbols)],
                    "size": [11 if p.node in special else 7 for p in here],
                    "color": [
                        MARKS["best"].light
                        if p.node is history.best
                        else INK
                        if p.node is history.seed
                        else MARKS["passed"].light
                        for p in here
                    ],
                    "line": {"color": PAPER, "width": 1},
                    "opacity": 0.9,
                },
                customdata=[p.node.id for p in here],
                hovertext=[
                    f"{hover(history, p.node)}<br>{plain(p.case)}<br>{p.intensity:.3g} FLOP/byte, "
                    f"{count(p.flops_per_second)}FLOP/s: {p.share_of(roof):.0%} of the roof"
                    for p in here
                ],
                hoverinfo="text",
            )
        )
    figure.update_xaxes(type="log", title="FLOP per byte of DRAM", exponentformat="none", dtick=1)
    figure.update_yaxes(type="log", title="FLOP/s, PREDICTED", exponentformat="SI", dtick=1)
    return Chart(
        title=title,
        figure=figure,
        says=f"{len({p.node.id for p in shown})} candidates on {len(cases)} cases below the roofs of an {roof.title}"
        + (f"; the {ROOFLINE_POINTS} fastest of {len(history.timed)} are drawn." if len(shown) < len(found) else "."),
    )


# --- what they share ------------------------------------------------------------------------------------------------


def look(*, height: int) -> go.Layout:
    """Typography, margins and lines of every chart."""
    axis = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zeroline": False,
        "ticks": "",
        "tickfont": {"size": 12, "color": MUTED},
        "title": {"font": {"size": 12, "color": MUTED}, "standoff": 8},
        "automargin": True,
    }
    template = go.layout.Template(layout={"xaxis": axis, "yaxis": axis})
    return go.Layout(
        template=template,
        height=height,
        autosize=True,
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 8, "r": 12, "t": 34, "b": 8},
        hoverlabel={
            "bgcolor": PAPER,
            "bordercolor": EDGE,
            "font": {"family": FONT, "size": 12, "color": INK},
            "align": "left",
        },
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12, "color": MUTED}},
        hovermode="closest",
    )
