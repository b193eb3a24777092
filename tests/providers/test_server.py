"""The provider's own process: it outlives a client that is killed, and its books are in a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernelevo.errors import ModelError
from kernelevo.models.load import load_model
from kernelevo.records import Message, Operator, Prompt
from providers.server import Answer, ProviderServer, Request, reply

ROOT = Path(__file__).resolve().parents[2]

CLIENT = """
import sys
from kernelevo.models.load import load_model
from kernelevo.records import Message, Operator, Prompt
user = Message(role="user", text=sys.argv[2])
prompt = Prompt(operator=Operator.TRANSLATE, messages=(user,), parents=(), template="", seed=0)
print(load_model(f"openai:m@{sys.argv[1]}/v1").propose(prompt).text, flush=True)
"""


def slow_when_asked(request: Request) -> Answer:
    return reply("a long reply " * 100, pieces=100, pause_seconds=0.05 if request.user == "slowly" else 0.0)


def test_a_server_in_its_own_process_outlives_its_client_and_writes_down_what_it_billed(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.providers.server", "--log", str(log)]
    command += ["--script", "tests.providers.test_server:slow_when_asked"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        client = [sys.executable, "-c", CLIENT, url]
        asked = subprocess.run([*client, "at once"], capture_output=True, text=True, check=True, env=environment)
        assert asked.stdout.strip() == ("a long reply " * 100).strip()
        killed = subprocess.Popen([*client, "slowly"], env=environment)
        entries = read_log(log, 1)
        time.sleep(0.2)
        while not connected(url):
            assert killed.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        entries = read_log(log, 2)
    finally:
        server.kill()
        server.wait()
    assert [entry["number"] for entry in entries] == [0, 1]
    assert [entry["delivered"] for entry in entries] == [True, False]
    assert entries[0]["output_tokens"] == 325
    assert 0 < entries[1]["output_tokens"] < 325
    assert all(entry["billed"] for entry in entries)


def read_log(path: Path, entries: int) -> list[dict[str, object]]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= entries:
            return [json.loads(line) for line in lines]
        time.sleep(0.02)
    raise AssertionError(f"{path} has fewer than {entries} entries")


def connected(url: str) -> bool:
    """Whether somebody has a connection to the server, as Linux lists them."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(port) and row[3] == "01" for row in rows)


def test_a_fault_of_a_script_is_not_taken_for_a_fault_of_the_client() -> None:
    def script(request: Request) -> Answer:
        raise LookupError("the script is wrong")

    prompt = Prompt(
        operator=Operator.TRANSLATE, messages=(Message(role="user", text="x"),), parents=(), template="", seed=0
    )
    with pytest.raises(LookupError, match="the script is wrong"), ProviderServer(script) as server:
        model = load_model(f"openai:m@{server.url}/v1", sleep=lambda seconds: None)
        with contextlib.suppress(ModelError):
            model.propose(prompt)
