"""The documents of docs/ are true: what they show is run, what cannot be run here is parsed, what they name exists.

docs/README.md has the rules for who writes one. A document runs in a folder of its own that stands for the checkout.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
GENERATED = DOCS / "cli.md"  # tests/cli/test_document.py
DOCUMENTS = [path for path in sorted(DOCS.rglob("*.md")) if path != GENERATED]
LINKED = [path for path in (ROOT / "README.md", *DOCUMENTS) if path.exists()]
LONG = {
    "tutorial.md",
    "how-to/own-task.md",
    "how-to/own-model.md",
    "how-to/use-a-kernel.md",
}  # more than ten seconds each

READ_ONLY = ("tasks", "tests", "skills")  # of the checkout, linked into a document's folder
KINDS = {"console", "sh", "python", "cuda", "toml", "text", "json"}
FENCE = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
REASON = re.compile(r"# (needs|does not) .+")

ID = re.compile(r"\b[rct]-[0-9a-f]{12,16}\b|\bagent-[0-9a-f]{8}\b")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)*(?:e[+-]?\d+)?")
PART = re.compile(rf"(?P<gap>\.\.\.)|(?P<id>{ID.pattern})|(?P<number>{NUMBER.pattern})")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT if path.parent == ROOT else DOCS))


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a document."""

    kind: str
    title: str | None
    text: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of a console block, and the output that the document shows for it."""

    command: str
    output: str
    line: int


def blocks(text: str) -> list[Block]:
    return [
        Block(kind=found[1], title=found[2], text=found[3], line=text[: found.start()].count("\n") + 1)
        for found in FENCE.finditer(text)
    ]


def steps(block: Block) -> list[Step]:
    """`$ ` begins a command, `> ` goes on with it, other lines are its output."""
    found: list[tuple[list[str], list[str], int]] = []
    for number, line in enumerate(block.text.splitlines(), start=block.line + 1):
        if line.startswith("$ "):
            found.append(([line[2:]], [], number))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            assert found, f"line {number}: output before any command"
            found[-1][1].append(line)
    return [Step(command="\n".join(c), output="\n".join(o), line=number) for c, o, number in found]


# What is shown against what came.


def plain(text: str) -> str:
    """Without empty lines, ends of lines and repeated spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def pattern_of(shown: str) -> tuple[re.Pattern[str], list[str]]:
    """The outputs that a document's output stands for, and the ids in it, one for each group of the pattern."""
    pieces: list[str] = []
    ids: list[str] = []
    for line in plain(shown).splitlines():
        if line == "...":
            pieces.append(r"(?:[^\n]*\n)*?")
            continue
        end = 0
        for part in PART.finditer(line):
            pieces.append(re.escape(line[end : part.start()]))
            end = part.end()
            if part["gap"]:
                pieces.append(r"[^\n]*?")
            elif part["id"]:
                ids.append(part[0])
                pieces.append(f"({ID.pattern})")
            else:
                pieces.append(NUMBER.pattern)
        pieces.append(re.escape(line[end:]) + r"\n")
    return re.compile("".join(pieces)), ids


def differs(shown: str, came: str, known: dict[str, str]) -> str | None:
    """Why an output is not what the document shows. known: ids of the document -> ids of this run; grows here."""
    pattern, ids = pattern_of(shown)
    found = pattern.fullmatch(plain(came) + "\n" * bool(came.strip()))
    if found is None:
        lines = plain(shown).splitlines()
        for count in range(1, len(lines) + 1):
            if pattern_of("\n".join([*lines[:count], "..."]))[0].fullmatch(plain(came) + "\n") is None:
                return f"this line, or one before it, did not come: {lines[count - 1]}"
        return "more came than is shown"
    for theirs, ours in zip(ids, found.groups(), strict=True):
        if known.setdefault(theirs, ours) != ours:
            return f"{theirs} stands for {known[theirs]} and for {ours}"
    return None


# Running a document.


@dataclass(kw_only=True)
class Shell:
    """One bash for all commands of a document."""

    folder: Path
    environment: dict[str, str]
    known: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Shell:
        self.process = subprocess.Popen(
            ["bash"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def run(self, command: str) -> tuple[int, str]:
        """Exit status and output; `$?` is there for the next command."""
        assert self.process.stdin is not None and self.process.stdout is not None
        for theirs, ours in self.known.items():
            command = command.replace(theirs, ours)
        end = "@@ended"
        self.process.stdin.write(
            f"{{ {command}\n}} </dev/null; __status=$?; printf '\\n{end} %s\\n' $__status; (exit $__status)\n"
        )
        self.process.stdin.flush()
        output = []
        for line in self.process.stdout:
            if line.startswith(f"{end} "):
                return int(line.split()[1]), "".join(output)
            output.append(line)
        raise AssertionError(f"bash ended in {command!r}: {''.join(output)}")


def checkout(folder: Path) -> Path:
    """A folder that stands for the checkout: its tasks, tests and skills, and a copy of its gallery."""
    (folder / "db").mkdir(parents=True)
    for name in READ_ONLY:
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "db" / "gallery.sqlite", folder / "db")
    return folder


def environment_of(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KERNELEVO_", "COLUMNS"))}
    return {
        **{name: value for name, value in kept.items() if not name.endswith("_API_KEY")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "KERNELEVO_CACHE": os.environ["KERNELEVO_CACHE"],
        "KERNELEVO_ARCHIVE": str(folder / "db" / "kernelevo.sqlite"),
    }


def cases() -> list[Any]:
    """The documents that show commands."""
    return [
        pytest.param(path, id=relative(path), marks=[pytest.mark.nvcc, *[pytest.mark.slow] * (relative(path) in LONG)])
        for path in DOCUMENTS
        if any(block.kind in ("console", "python") for block in blocks(path.read_text()))
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", cases())
def test_what_a_document_shows_is_what_happens(path: Path, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "kernelevo")
    environment = environment_of(folder)
    with Shell(folder=folder, environment=environment) as shell:
        for block in blocks(path.read_text()):
            if block.title is not None:
                target = folder / block.title
                assert folder in target.resolve().parents, f"{block.title} is outside the document's folder"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text)
            elif block.kind == "python":
                program = ["python", "-c", block.text]
                done = subprocess.run(
                    program, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=200
                )
                assert done.returncode == 0, f"{path}:{block.line}: {done.stderr}"
            elif block.kind == "console":
                follow(shell, path, steps(block))


def follow(shell: Shell, path: Path, todo: Sequence[Step]) -> None:
    for step, after in zip(todo, [*todo[1:], None], strict=True):
        status, came = shell.run(step.command)
        place = f"{path}:{step.line}: {step.command}"
        asked = step.command == "echo $?"
        if not asked and (after is None or after.command != "echo $?"):
            assert status == 0, f"{place}: exit status {status}\n{came}"
        if asked:
            assert came.strip() == step.output.strip(), f"{place}: {came}"
        elif (why := differs(step.output, came, shell.known)) is not None:
            raise AssertionError(f"{place}: {why}\n--- came\n{came}")


# Commands that are not run.


@functools.cache
def cli() -> Any:
    from kernelevo.cli import complete

    return typer.main.get_command(complete())


def resolve(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command that words behind `kernelevo` name, and the words behind it."""
    command, rest = cli(), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"kernelevo has no command {' '.join(words)!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def parse(words: Sequence[str]) -> None:
    """Fails where the command line would be refused."""
    command, rest = resolve(words)
    if hasattr(command, "commands") or "--help" in rest:
        return
    try:
        command.make_context(command.name, rest)
    except Exception as error:
        raise AssertionError(f"kernelevo {' '.join(words)}: {error}") from error


def options_exist(words: Sequence[str]) -> None:
    """The same for what prose says: arguments may be missing."""
    command, rest = resolve(words)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in rest:
        name = word.partition("=")[0]
        assert not re.match(r"--?[a-z]", name) or name in known, f"kernelevo {' '.join(words)}: no option {name}"


def invocations(script: str) -> Iterator[list[str]]:
    """The words behind each `kernelevo` of a shell script. Variables and substitutions become 1."""
    script = re.sub(r"\\\n\s*", " ", script)
    script = re.sub(r"\$\(\(.*?\)\)|\$\([^)]*\)|\$\{[^}]*\}|\$\w+", "1", script)
    for line in script.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= set(";&|()<>"):
                place = max(
                    (i for i, one in enumerate(command) if Path(one).name == "kernelevo" and "=" not in one),
                    default=None,
                )
                if place is not None and command[place + 1 :]:
                    yield command[place + 1 :]
                command = []
            else:
                command.append(word)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_what_cannot_be_run_here_says_why_and_has_no_unknown_option(path: Path) -> None:
    for block in blocks(path.read_text()):
        assert block.kind in KINDS, f"{path}:{block.line}: unknown kind of block {block.kind}"
        if block.kind == "console":
            assert block.text.startswith("$ "), f"{path}:{block.line}: a console block begins with a command"
        if block.kind == "sh" or (block.title or "").endswith(".sh"):
            lines = block.text.splitlines()
            assert any(REASON.match(line) for line in lines[:2]), f"{path}:{block.line}: say what it needs"
            for words in invocations(block.text):
                parse(words)
            for target in re.findall(r"^\s*make (\w+)", block.text, re.MULTILINE):
                assert target in make_targets(), f"{path}:{block.line}: make {target}"
            for named in re.findall(r"(?<![\w/.])(?:tests|tasks|docs|skills)/[\w./-]+", block.text):
                assert (ROOT / named).exists(), f"{path}:{block.line}: there is no {named}"


def prose(text: str) -> str:
    """Without fenced blocks."""
    return FENCE.sub("", text)


@pytest.mark.parametrize("path", LINKED, ids=relative)
def test_commands_and_files_in_the_prose_exist(path: Path) -> None:
    for code in INLINE.findall(prose(path.read_text())):
        if code.startswith("kernelevo "):
            options_exist(re.split(r"\s[|;>]|\s#", code)[0].split()[1:])
        if re.fullmatch(r"(kernelevo|tests|tasks|db|docs|skills|csrc)/[\w./-]+", code) and not re.search(
            r"[A-Z]{3,}(?!\w*\.md)|\bkernelevo\.sqlite", code
        ):
            assert (ROOT / code).exists(), f"{path.name}: there is no {code}"


def test_the_commands_that_the_readme_lists_exist() -> None:
    listed = re.findall(r"^    kernelevo (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(listed) > 10
    for line in listed:
        command, *others = re.split(r"\s*\|\s*|,\s+", re.split(r"\s+#\s", line)[0].strip())
        words = command.split()
        options_exist(words)
        group = words[:1] if hasattr(resolve(words[:1])[0], "commands") else []
        for other in others:
            options_exist([*group, *other.split()])


# Links.


def anchors(path: Path) -> set[str]:
    """What GitHub makes of a document's headings."""
    heads = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", LINKED, ids=relative)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(prose(path.read_text())):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        place = (path.parent / target).resolve() if target else path
        assert place.exists() and place.is_relative_to(ROOT), f"{relative(path)}: {link} leads nowhere"
        if anchor:
            assert anchor in anchors(place), f"{relative(path)}: {link}: no such heading"


def test_every_document_is_in_the_index() -> None:
    index = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall((DOCS / "README.md").read_text())}
    missing = [relative(path) for path in (*DOCUMENTS, GENERATED) if path != DOCS / "README.md" and path not in index]
    assert not missing


# The rule of comparison itself.


@pytest.mark.parametrize(
    ("shown", "came", "equal"),
    [
        ("3 cases in 1.5 s", "3 cases in 17 s", True),
        ("3 cases", "3 mistakes", False),
        ("best c-00112233445566aa", "best c-ffeeddccbbaa0011", True),
        ("best c-00112233445566aa", "best nothing", False),
        ("one\n...\nlast", "one\ntwo\nthree\nlast", True),
        ("one\n...\nlast", "one\ntwo", False),
        ("one", "one\ntwo", False),
        ("a ... z", "a b c z\n\n", True),
        ("float32", "float16", False),
        ("", "", True),
        ("", "something", False),
    ],
)
def test_words_must_be_equal_and_numbers_and_ids_need_not(shown: str, came: str, equal: bool) -> None:
    assert (differs(shown, came, {}) is None) is equal


def test_an_id_stands_for_the_same_id_throughout_a_document() -> None:
    known: dict[str, str] = {}
    assert differs("r-000000000001", "r-00000000000a", known) is None
    assert differs("r-000000000001", "r-00000000000b", known) is not None


def test_unknown_commands_and_options_are_seen() -> None:
    for script in ("kernelevo evolv softmax", "nice kernelevo evolve softmax --sed 1", "a; kernelevo tell"):
        with pytest.raises(AssertionError):
            all_parse(invocations(script))
    all_parse(invocations('srun kernelevo evolve softmax --seed "$SEED" \\\n  --archive "$FILE" > out.txt &'))


def all_parse(commands: Iterable[list[str]]) -> None:
    found = list(commands)
    assert found
    for words in found:
        parse(words)
