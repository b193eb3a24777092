"""Colours and marks of the report, for light and for dark: what charts, templates and scripts agree on.

Outcomes are told by a mark and a word, and by a colour besides. The colours are after Okabe and Ito, "Color Universal
Design", 2008: they differ for people who do not tell red from green.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """How an outcome looks."""

    name: str  # of its CSS class and of its drawing in the page
    symbol: str  # plotly's
    light: str
    dark: str


MARKS = {
    "passed": Mark("passed", "circle", "#0072b2", "#56b4e9"),
    "best": Mark("best", "star", "#b56a00", "#ffb938"),
    "wrong": Mark("wrong", "x", "#c44e00", "#ff8a4c"),
    "crashed": Mark("crashed", "diamond", "#a23b86", "#e79ad2"),
    "timed out": Mark("timed-out", "hourglass", "#00785f", "#35c9a5"),
    "build failed": Mark("build-failed", "square", "#57606a", "#a1abb6"),
    "cheating": Mark("cheating", "triangle-down", "#8f1d3f", "#ff6f91"),
    "unsupported": Mark("unsupported", "triangle-up-open", "#6e7781", "#8d97a3"),
    "not evaluated": Mark("not-evaluated", "circle-open", "#6e7781", "#8d97a3"),
    "no time": Mark("no-time", "circle-open-dot", "#0072b2", "#56b4e9"),
    "other timing": Mark("other-timing", "hexagon-open", "#0072b2", "#56b4e9"),
    "no candidate": Mark("no-candidate", "line-ew-open", "#6e7781", "#8d97a3"),
}
UNKNOWN = MARKS["not evaluated"]

INK = "#1c2128"
MUTED = "#5c6670"
GRID = "#e3e6ea"
PAPER = "#ffffff"
EDGE = "#b4bcc6"
ACCENT = "#b56a00"  # the way to the best
WAIT = "#8fa6bd"
FAST, MIDDLE, SLOW = "#0b4a80", "#5b9bd0", "#dcebf7"

# Colours as the figures have them -> in the dark: a script puts one in the place of the other.
DARK = {
    INK: "#e6edf3",
    MUTED: "#9da7b3",
    GRID: "#2a313a",
    PAPER: "#161b22",
    EDGE: "#4b5563",
    ACCENT: "#ffb938",
    WAIT: "#5f7690",
    FAST: "#9ad1ff",
    MIDDLE: "#3f7db0",
    SLOW: "#1f3346",
    **{mark.light: mark.dark for mark in MARKS.values()},
}


def mark_of(outcome: str) -> Mark:
    return MARKS.get(outcome, UNKNOWN)
