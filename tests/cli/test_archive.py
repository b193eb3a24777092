"""`kernelevo archive ... --json`, on the gallery: what a machine reads is what people are shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"


def archive(*arguments: str) -> str:
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "archive", *arguments]
    done = subprocess.run([*command, "--archive", str(GALLERY)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_places_runs_candidates_and_ancestors_as_json() -> None:
    places = json.loads(archive("best", "softmax", "--limit", "2", "--json"))
    assert {(p["task"], p["kind"], p["target"]) for p in places} == {("softmax", "predicted", "H100 SXM")}
    assert all(a["score_ns"] <= b["score_ns"] for a, b in zip(places[::2], places[1::2], strict=True))
    best = places[-2]["candidate"]
    assert best in archive("best", "softmax", "--limit", "2")

    (entry,) = json.loads(archive("list", "softmax", "--json"))
    run = json.loads(archive("show", entry["run"]["id"], "--json"))
    assert run["run"] == entry
    assert len(run["iterations"]) >= entry["attempts"]
    seed = run["iterations"][0]
    assert seed["job"]["operator"] == "seed" and seed["scored"]["status"] == "passed"
    assert any(best == i["scored"]["candidate"] for i in run["iterations"] if i["scored"])
    assert any("PYBIND11_MODULE" in reply["text"] for i in run["iterations"] for reply in i["replies"])

    shown = json.loads(archive("show", best, "--json"))
    assert shown["candidate"]["source"] == archive("show", best, "--source")
    assert shown["evaluations"][0]["timing"]["score_ns"] == places[-2]["score_ns"]

    ancestry = json.loads(archive("lineage", best, "--json"))
    assert ancestry[0]["candidate"] == best
    known = {node["candidate"] for node in ancestry}
    assert all(set(node["parents"]) <= known for node in ancestry)
    assert seed["scored"]["candidate"] in known
