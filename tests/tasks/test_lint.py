"""Each rule of the linter has tasks that break it; no shipped task breaks any."""

import dataclasses
import os
import subprocess
import sys

import pytest
import torch

import kernelevo.lint
from kernelevo.config import read_settings
from kernelevo.lint import ask, lint, lint_seed
from kernelevo.records import Operator, Reply
from kernelevo.tasks import list_tasks, load_task, new_task

FILE = """
title = "A task with one flaw"
description = "Written for one rule of the linter."
entry = "forward"
signature = "forward(x: Tensor[rows, cols], weight: Tensor[cols]) -> Tensor[rows, cols]"
initialisations = ["normal", "uniform"]
[hidden]
rows = [1, 40]
cols = [1, 200]
[[test]]
rows = 3
cols = 31
[[test]]
rows = 40
cols = 129
[[bench]]
rows = 64
cols = 256
"""
REFERENCE = """
import torch
from kernelevo.tasks import sample, sample_parameter

def reference(x, weight):
    return x * weight + x

def inputs(case, generator):
    shape = (case.sizes["rows"], case.sizes["cols"])
    return sample(shape, case, generator), sample_parameter(shape[1:], case, generator)
"""

# name -> (kind, words of the text, what to replace in which file)
FLAWS = {
    "blunt": (
        "no teeth",
        "outputs that are zeros pass every TEST case",
        ("reference", "def inputs", "def compare(outputs, oracle):\n    return None\n\ndef inputs"),
    ),
    "constant": (
        "nearly constant",
        "output 0 varies by less",
        ("reference", "x * weight + x", "0 * x + 7 + 1e-5 * weight"),
    ),
    "repeats": (
        "nearly constant",
        "all along axis 2",
        ("reference", "x * weight + x", "(x * weight + x)[..., None].repeat(1, 1, 3)"),
    ),
    "dead": ("dead input", "no output depends on input 1", ("reference", "x * weight + x", "x * 2")),
    "all_ones": ("idle initialisation", "are all one in every case", ("file", '["normal", "uniform"]', '["ones"]')),
    "same_weights": (
        "idle initialisation",
        "draw the same inputs",
        ("reference", "sample_parameter(shape[1:], case, generator)", "sample(shape[1:], case, generator)"),
    ),
    "idle_size": ("idle size", "no shape depends on depth", ("file", "rows = ", "depth = [1, 9]\nrows = ")),
    "one_size": ("hidden sizes", "cols is 31 in every", ("file", "cols = [1, 200]", "cols = [31, 31]")),
    "crashes": (
        "hidden sizes",
        "RuntimeError",
        ("reference", "x * weight + x", "(x.unfold(1, 20, 1).sum(-1)[:, :1] + x) * weight"),
    ),
    "in_place": ("impure", "changes input 0", ("reference", "x * weight + x", "x.mul_(weight).add(1)")),
    "view": (
        "impure",
        "output 0 is an input, or a view",
        ("reference", "return x * weight + x", "x *= 1; return x.view_as(x) if weight.sum() is None else x"),
    ),
    "noise": (
        "impure",
        "two runs of the reference",
        ("reference", "x * weight + x", "x * weight + torch.rand_like(x)"),
    ),
    "global_draw": (
        "impure",
        "inputs() gives different tensors",
        ("reference", "sample(shape, case, generator),", "torch.randn(shape).to(getattr(torch, case.dtype)),"),
    ),
    "clock": ("own state", "imports time", ("reference", "import torch\n", "import torch\nimport time\n")),
    "counter": (
        "own state",
        "changes the global calls",
        ("reference", "return x * weight + x", "global calls; calls = 1; return x * weight + x"),
    ),
    "narrow": (
        "names a dtype",
        "output 0 is float32 for float64",
        ("reference", "x * weight + x", "(x * weight + x).float()"),
    ),
    "infinite": (
        "not finite",
        "of an output is infinite or NaN",
        ("reference", "x * weight + x", "x * weight / (x - x.relu())"),
    ),
    "twice": (
        "duplicate case",
        "have the same inputs",
        (
            "reference",
            "    shape = ",
            "    generator.manual_seed(1)\n    case = replace(case, distribution='normal')\n    shape = ",
        ),
    ),
}


@pytest.fixture
def flawed(tmp_path):
    def write(name):
        _, _, (where, old, new) = FLAWS[name]
        folder = tmp_path / name
        folder.mkdir()
        file, reference = FILE, REFERENCE
        if where == "file":
            assert old in file
            file = file.replace(old, new, 1)
        else:
            assert old in reference
            reference = reference.replace(old, new)
        if name == "idle_size":
            file = file.replace("[[test]]", "[[test]]\ndepth = 2").replace("[[bench]]", "[[bench]]\ndepth = 2")
        if name == "one_size":
            file = file.replace("cols = 129", "cols = 31").replace("cols = 256", "cols = 31")
        if name == "twice":
            reference = "from dataclasses import replace\n" + reference
        (folder / "task.toml").write_text(file)
        (folder / "reference.py").write_text(reference)
        return load_task(folder)

    return write


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_found_by_its_rule_with_the_way_to_repair_it(name, flawed):
    kind, words, _ = FLAWS[name]
    found = [flaw for flaw in lint(flawed(name)) if flaw.kind == kind and words in flaw.text]
    assert len(found) == 1, lint(flawed(name))
    assert len(found[0].repair.split()) >= 4


def test_the_task_that_the_flawed_ones_are_made_from_has_none(tmp_path):
    (tmp_path / "task.toml").write_text(FILE)
    (tmp_path / "reference.py").write_text(REFERENCE)
    assert lint(load_task(tmp_path)) == ()


def test_every_rule_that_is_documented_has_a_flawed_task():
    table = kernelevo.lint.__doc__.split("text of reference.py:")[1]
    assert {line[4:25].strip() for line in table.splitlines() if line.strip()} == {
        kind for kind, _, _ in FLAWS.values()
    }


@pytest.mark.parametrize("name", [task.name for task in list_tasks()])
def test_no_shipped_task_has_a_flaw(name):
    assert lint(load_task(name)) == ()


def test_a_new_task_has_no_flaw(tmp_path):
    assert lint(load_task(new_task("fresh", tmp_path))) == ()


@pytest.mark.parametrize("name", ["gelu", "cross_entropy"])
def test_outputs_of_single_elements_and_axes_of_length_one_are_no_flaw(name):
    task = load_task(name)
    kept = dataclasses.replace(task, reference=lambda *given: task.reference(*given).unsqueeze(0))
    assert [flaw for flaw in lint(kept) if flaw.kind == "nearly constant"] == []


def test_the_linter_leaves_torchs_own_generator_and_threads_as_they_were():
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    lint(load_task("softmax"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.nvcc
@pytest.mark.slow
def test_a_seed_that_does_not_match_its_entry_or_its_reference_is_a_flaw(emulator):
    task = load_task("gelu")
    settings = read_settings()
    renamed = dataclasses.replace(task, seed_source=task.seed_source.replace('m.def("forward"', 'm.def("gelu"'))
    (flaw,) = lint_seed(renamed, emulator, settings)
    assert (flaw.kind, "seed.cu does not build" in flaw.text, "not the entry" in flaw.text) == ("seed", True, True)
    wrong = dataclasses.replace(task, seed_source=task.seed_source.replace("0.5f", "0.6f"))
    (flaw,) = lint_seed(wrong, emulator, settings)
    assert flaw.text.startswith("seed.cu is judged wrong: wrong value")
    assert lint_seed(task, emulator, settings) == ()
    assert lint_seed(dataclasses.replace(task, seed_source=None), emulator, settings) == ()


class Scripted:
    """A model that gives prepared answers and keeps what it was asked."""

    name = "scripted"
    free = False

    def __init__(self, *answers):
        self.answers = iter(answers)
        self.prompts = []

    def propose(self, prompt, *, limit_usd=None, failed=None):
        self.prompts.append(prompt)
        return Reply(model=self.name, text=next(self.answers), seconds=0.1, finish_reason="stop")


def test_a_model_may_judge_the_reference_and_its_opinions_are_marked_as_its_own():
    model = Scripted(
        "- redundant: the maximum is taken twice\n`inefficient`: use torch.softmax\nI hope this helps.", "fine"
    )
    task = load_task("softmax")
    assert [(flaw.kind, flaw.text) for flaw in ask(task, model)] == [
        ("redundant, says scripted", "the maximum is taken twice"),
        ("inefficient, says scripted", "use torch.softmax"),
    ]
    assert ask(task, model) == ()
    (first, second) = model.prompts
    assert first == second
    assert task.reference_source in first.messages[0].text
    assert first.operator is Operator.SIMPLIFY


def run(*arguments, tasks=None, **variables):
    environment = {**os.environ, **variables, **({"KERNELEVO_TASKS": str(tasks)} if tasks else {})}
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "tasks", "lint", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_prints_flaws_and_repairs_and_exits_with_1(tmp_path, flawed):
    flawed("dead")
    done = run(tasks=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("dead: dead input: no output depends on input 1\n  repair: drop the input")
    assert run("dead", "--judge", "nobody", tasks=tmp_path).returncode == 2


def test_without_compilers_the_rest_is_judged_and_the_seed_is_said_not_to_be():
    done = run("gelu", KERNELEVO_HOST_COMPILER="no-such-compiler")
    assert done.returncode == 2
    assert done.stdout.startswith("gelu: no flaw; its seed was not judged: ")
