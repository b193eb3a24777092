"""`kernelevo mcp` over a real subprocess, with the SDK's own client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from mcp import Client, StdioServerParameters

from kernelevo import open_archive
from kernelevo.agents import AgentJob

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]

SERVE = [sys.executable, "-c", "from kernelevo.cli import main; main()", "mcp", "--archive"]
TOOLS = {"list_tasks", "get_task", "ask", "tell", "evaluate", "predict", "best", "explain_failure"}


class Agent:
    """A client that a test calls without await."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, client: Client) -> None:
        self.portal, self.client = portal, client
        self.progress: list[str] = []

    def begin(self, tool: str, **arguments: object) -> Future[Any]:
        async def report(progress: float, total: float | None, message: str | None) -> None:
            self.progress.append(message or "")

        async def call() -> Any:
            return await self.client.call_tool(tool, arguments, progress_callback=report)

        return self.portal.start_task_soon(call)

    def call(self, tool: str, **arguments: object) -> Any:
        """The structured result."""
        result = self.begin(tool, **arguments).result(timeout=280)
        assert not result.is_error, result.content[0].text
        found = result.structured_content
        return found["result"] if set(found) == {"result"} else found

    def error(self, tool: str, **arguments: object) -> str:
        result = self.begin(tool, **arguments).result(timeout=280)
        assert result.is_error
        return str(result.content[0].text)


@pytest.fixture
def connect(archive_file: Path) -> Iterator[Callable[[StdioServerParameters | str], Agent]]:
    with ExitStack() as stack:
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal())

        def connected(server: StdioServerParameters | str) -> Agent:
            client = Client(server, read_timeout_seconds=280)
            return Agent(portal, stack.enter_context(portal.wrap_async_context_manager(client)))

        yield connected


@pytest.fixture
def agent(connect: Callable[[StdioServerParameters], Agent], archive_file: Path) -> Agent:
    command, *arguments = [*SERVE, str(archive_file)]
    return connect(StdioServerParameters(command=command, args=arguments, env=dict(os.environ)))


def test_an_agent_finds_the_tools_and_goes_once_through_the_loop(agent: Agent, job: AgentJob, seed: str) -> None:
    tools = agent.portal.call(agent.client.list_tools).tools
    assert {tool.name for tool in tools} == TOOLS
    assert all(tool.output_schema and len(tool.description) > 60 for tool in tools)
    assert "gelu" in {task["name"] for task in agent.call("list_tasks")}
    sheet = agent.call("get_task", task="gelu")
    assert sheet["seed_source"] == seed and "torch.nn.functional.gelu" in sheet["reference_source"]
    assert sheet["rules"] == job.rules and sheet["gpu"] == "H100 SXM" and sheet["gpu_facts"]["multiprocessors"] == 132
    assert sheet["timed"] == ["rows=2048 cols=4096 float32", "rows=2048 cols=1024 float32"]
    asked = agent.call("ask", task="gelu", with_rules=False)
    assert asked["job"].startswith(f"{job.run}/2@") and asked["rules"] == "" and seed.strip() in asked["request"]
    told = agent.call("tell", job=asked["job"], source=f"// by hand\n{seed}", plan="nothing new")
    assert (told["status"], told["speedup_over_seed"], told["is_best"]) == ("passed", 1.0, False)
    board = agent.call("best", task="gelu")
    assert [place["place"] for place in board["places"]] == [1, 2] and board["kind"] == "predicted"
    again = agent.error("tell", job=asked["job"], source=seed)
    assert "was told already" in again and "next: ask for another" in again


def test_a_draft_is_evaluated_with_progress_while_other_tools_answer_and_its_failure_is_explained(
    agent: Agent, seed: str, archive_file: Path
) -> None:
    agent.call("get_task", task="gelu")  # the device is open
    draft = agent.begin("evaluate", task="gelu", source=seed.replace("0.5f", "0.25f"))
    while "build" not in agent.progress:
        assert not draft.done()
        time.sleep(0.01)
    agent.call("list_tasks")
    assert not draft.done()
    evaluated = draft.result(timeout=280).structured_content
    assert evaluated["report"]["status"] == "wrong"
    stages = dict.fromkeys(text.partition(":")[0] for text in agent.progress)
    assert list(stages) == ["read", "duplicate", "static", "build", "smoke", "correctness"]
    candidate = evaluated["report"]["candidate"]
    explained = agent.call("explain_failure", candidate=candidate[:10])
    assert explained["report"]["reason"] == evaluated["report"]["reason"] != ""
    assert "the formula" in explained["meaning"][0] and "0.25f" in explained["source"]
    predicted = agent.call("predict", task="gelu", source=seed.replace("0.5f", "0.25f"))
    assert predicted["verified"] is False and predicted["score_ns"] > 0
    assert (
        predicted["counters"]["rows=2048 cols=4096 float32"]["launches"] == 1
        and predicted["resources"][0]["registers"] > 0
    )
    with open_archive(archive_file, read_only=True) as archive:
        assert [found.status for found in archive.evaluations(candidate)] == ["wrong"]


def test_errors_say_what_to_do_next(agent: Agent, job: AgentJob) -> None:
    assert "there is no task 'nosuch'" in agent.error("ask", task="nosuch")
    assert "is not the id of a job" in agent.error("tell", job="1", source="x")
    assert "give a source or a candidate" in agent.error("predict", task="gelu")
    assert "no correct kernel of softmax" in agent.error("best", task="softmax")
    assert "source is empty" in agent.error("evaluate", task="gelu", source=" ")
    known = agent.call("predict", task="gelu", candidate=job.parents[0])
    assert known["verified"] is True and known["kind"] == "predicted" and known["cases"][0]["bottleneck"]


def test_nothing_but_the_protocol_reaches_standard_output(archive_file: Path, seed: str) -> None:
    """Not even what a candidate prints on the host."""
    noisy = seed.replace("auto y = torch", 'printf("noise\\n"); fflush(stdout); auto y = torch')
    messages: list[dict[str, object]] = [
        {
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
        {"method": "notifications/initialized"},
        {
            "id": 2,
            "method": "tools/call",
            "params": {"name": "evaluate", "arguments": {"task": "gelu", "source": noisy}},
        },
    ]
    with subprocess.Popen([*SERVE, str(archive_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        for message in messages:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        server.stdin.flush()
        lines = []
        while not lines or json.loads(lines[-1]).get("id") != 2:
            lines.append(server.stdout.readline())
        server.stdin.close()
        lines += server.stdout.readlines()
    assert [json.loads(line).get("id") for line in lines] == [1, 2]
    report = json.loads(lines[1])["result"]["structuredContent"]["report"]
    assert report["status"] == "passed" and "noise" in "\n".join(report["feedback"])


def test_the_same_tools_are_served_over_http_on_the_own_machine_only(
    connect: Callable[[str], Agent], archive_file: Path
) -> None:
    port = 20_000 + os.getpid() % 20_000
    with subprocess.Popen([*SERVE, str(archive_file), "--http", str(port)], stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    agent = connect(f"http://127.0.0.1:{port}/mcp")
                    break
                except Exception:
                    assert time.monotonic() < deadline and server.poll() is None
                    time.sleep(0.2)
            assert "gelu" in {task["name"] for task in agent.call("list_tasks")}
        finally:
            server.terminate()
