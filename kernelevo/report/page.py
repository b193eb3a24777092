"""Everything that was gathered, as one HTML text.

    report(archive, "r-80706f3de13e", roofs=(), place="db/kernelevo.sqlite", now=...)    -> str

The page is written by templates/, which escape whatever is put into them. What a candidate's panel shows is compressed
in chunks (embed.py) and unpacked when somebody asks for it, so that a run of thousands of candidates opens at once; the
tables are plain HTML and are there without scripts.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs, get_plotlyjs_version

from kernelevo.archive import Archive
from kernelevo.decide import AGENT
from kernelevo.judges.report import calibration, savings
from kernelevo.report import roofline, tree, words
from kernelevo.report.charts import Chart, charts, outcome_of, stage_seconds
from kernelevo.report.code import HUES, hues
from kernelevo.report.credit import by_model, by_operator, failures
from kernelevo.report.embed import chunks, json_text, policy
from kernelevo.report.gather import History, Node, gather
from kernelevo.report.palette import DARK, MARKS, mark_of

TEMPLATES = Path(__file__).parent / "templates"
CHUNK = 16  # candidates that are packed together
LIMITS = {  # names of kernelevo.budget.Budget -> options of `kernelevo evolve`
    "usd": "--budget-usd",
    "seconds": "--budget-seconds",
    "evaluations": "--max-evaluations",
    "speedup": "--target-speedup",
    "roofline": "--roofline",
    "stagnation": "--stagnation",
}


def report(archive: Archive, run: str, *, roofs: Sequence[roofline.Roof], place: str, now: datetime) -> str:
    """The page of one run.

    run: its id, or a unique beginning of it.
    roofs: of the GPUs whose peaks are known; the one that the run's times are for is taken.
    place: of the archive, for the commands that repeat the run.
    now: when the report is written.

    Raises UsageError for no run, or several.
    """
    history = gather(archive, run)
    roof = next((r for r in roofs if history.basis and r.title == history.basis.target), None)
    drawn = charts(history, roof)
    scripts = (script_text(get_plotlyjs()), script_text((TEMPLATES / "page.js").read_text()))
    counted = failures(history.steps)
    found = roofline.points(history, roof)
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            history=history,
            run=history.entry.run,
            charts=drawn,
            figures={name: figure_text(chart) for name, chart in drawn.items() if chart.figure is not None},
            operators=by_operator(history),
            models=by_model(history),
            failures=counted,
            ended=[s for s in history.steps if s.stage != "done"],
            stage_seconds=stage_seconds(history),
            calibration=calibration(history.judged),
            savings=savings(history.judged) if history.judged else None,
            roof=roof,
            roof_points=[p for p in found if p.node in (history.seed, history.best)]
            if not isinstance(found, str)
            else [],
            commands=commands(history, place),
            versions=versions(history),
            limits=[f"{LIMITS[name].removeprefix('--')} {value:g}" for name, value in history.limits.items()],
            place=place,
            now=now,
            policy=policy(scripts),
            plotly=scripts[0],
            script=scripts[1],
            style=(TEMPLATES / "page.css").read_text() + mark_styles(),
            marks=MARKS,
            dark=json_text(DARK),
            hue_names=json_text(HUES),
            index=json_text(index(history)),
            chunks=chunks(packed(history, roof)),
        )
    )


@cache
def templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(words=words, mark_of=mark_of, outcome_of=outcome_of)
    return found


def script_text(text: str) -> str:
    """As a browser reads it, so that its hash is the one that the policy allows."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def figure_text(chart: Chart) -> str:
    return json_text(chart.figure.to_json()) if chart.figure is not None else ""


def mark_styles() -> str:
    """The colours of outcomes as CSS variables, for both schemes."""
    light = "".join(f"--{mark.name}:{mark.light};" for mark in MARKS.values())
    dark = "".join(f"--{mark.name}:{mark.dark};" for mark in MARKS.values())
    classes = "".join(f".mark-{mark.name}{{color:var(--{mark.name})}}" for mark in MARKS.values())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{classes}"


# --- what stands in the panel of a candidate ------------------------------------------------------------------------


def index(history: History) -> dict[str, Any]:
    """Of each candidate: its chunk, its first parent, its place in the tree and a line about it."""
    drawn = tree.layout({node.id: node.job.parents for node in history.nodes.values()})
    carrier = {child: parent for parent, child in drawn.edges}
    return {
        node.id: [
            position // CHUNK,
            carrier.get(node.id),
            drawn.places[node.id].depth,
            drawn.places[node.id].row,
            said(history, node),
        ]
        for position, node in enumerate(history.nodes.values())
    }


def said(history: History, node: Node) -> str:
    """One line about a candidate."""
    line = f"#{node.job.iteration} {node.job.operator.value}: {node.status}"
    if node.score_ns is None or history.basis is None:
        return line
    over = history.over_seed(node)
    gain = f", {words.times_faster(over)} the seed" if over is not None else ""
    return f"{line}, {words.duration(node.score_ns)} {history.basis.kind.value.upper()}{gain}"


def packed(history: History, roof: roofline.Roof | None) -> Iterator[dict[str, Any]]:
    """Chunks of CHUNK candidates. Like stands beside like, which compresses well."""
    children: dict[str, list[Node]] = {}
    for node in history.nodes.values():
        for parent in dict.fromkeys(node.job.parents):
            children.setdefault(parent, []).append(node)
    panel = templates().get_template("panel.html.j2")
    nodes = list(history.nodes.values())
    for start in range(0, len(nodes), CHUNK):
        part = nodes[start : start + CHUNK]
        yield {
            "sources": {n.id: n.candidate.source for n in part},
            "hues": {n.id: hues(n.candidate.source) for n in part},
            "diffs": {n.id: [diff(history, parent, n) for parent in parents_of(history, n)] for n in part},
            "panels": {
                n.id: panel.render(
                    history=history,
                    node=n,
                    evaluation=n.evaluation,
                    parents=parents_of(history, n),
                    children=children.get(n.id, []),
                    points=points_of(n, roof),
                    tuned=[tried for i in n.iterations for tried in history.tuned.get(i, ())],
                )
                for n in part
            },
        }


def parents_of(history: History, node: Node) -> list[str]:
    """Its parents that the run holds, each once."""
    return [p for p in dict.fromkeys(node.job.parents) if p in history.nodes and p != node.id]


def points_of(node: Node, roof: roofline.Roof | None) -> dict[str, roofline.Point]:
    """Its places below the roof, by case."""
    if roof is None or node.evaluation is None or node.evaluation.timing is None:
        return {}
    if node.evaluation.timing.target != roof.title:
        return {}
    found = (roofline.point_of(node, case) for case in node.evaluation.timing.cases)
    return {point.case: point for point in found if point is not None}


def diff(history: History, parent: str, node: Node) -> str:
    """Unified, without the two lines of names."""
    before, after = history.nodes[parent].candidate.source, node.candidate.source
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3)
    return "\n".join(list(lines)[2:])


# --- how to get the same again --------------------------------------------------------------------------------------


def commands(history: History, place: str) -> list[tuple[str, str]]:
    """What each does, and the command."""
    run = history.entry.run
    archive = ["--archive", place]
    found = [("the same replies again, without a key; says the first difference", ["replay", run.id, *archive])]
    if run.models != (AGENT,) and run.replay_of is None:
        options = [f for model in run.models for f in ("--model", model)]
        options += [f for judge in run.judges for f in ("--judge", judge)]
        options += ["--device", run.device, "--strategy", run.strategy, "--generations", str(run.generations)]
        options += ["--population", str(run.population), "--lookahead", str(run.lookahead), "--seed", str(run.seed)]
        options += [f for name, value in history.limits.items() for f in (LIMITS[name], f"{value:g}")]
        found.append(("a new run with these settings", ["evolve", run.task, *options]))
    if history.best is not None:
        found.append(("the best kernel's source", ["archive", "show", history.best.id, "--source", *archive]))
        found.append(("all that is known of the best", ["archive", "show", history.best.id, *archive]))
    return [(what, shlex.join(["kernelevo", *words_])) for what, words_ in found]


def versions(history: History) -> list[tuple[str, str]]:
    """What made the candidates, and what made this page."""
    targets = dict.fromkeys(n.evaluation.build.target for n in history.nodes.values() if n.evaluation)
    return [
        ("compilers", "; ".join(history.compilers) or "nothing was built"),
        ("built for", ", ".join(targets) or "nothing was built"),
        ("timed by", str(history.basis) if history.basis else "nothing was timed"),
        ("task files", history.entry.run.task_digest),
        ("this page", f"kernelevo {version('kernelevo')}, plotly.js {get_plotlyjs_version()}"),
    ]
