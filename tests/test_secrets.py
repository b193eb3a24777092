"""A provider's key goes to that provider and nowhere else: not into texts, records, logs, workers or other servers."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from providers.server import Answer, ProviderServer, Request, Script, error, reply

from kernelevo.build import processes
from kernelevo.config import provider_key, secrets_present
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import KernelevoError, ModelError, UsageError
from kernelevo.models import Model
from kernelevo.models.load import load_model
from kernelevo.records import FailedCall, Message, Operator, Prompt, Reply

KEY = "sk-live-5up3r53cr3t-9f8e7d6c5b4a"
VARIABLE = "KERNELEVO_TEST_KEY"
NAMES = {
    "anthropic": f"anthropic:claude-x@{{url}}?key={VARIABLE}",
    "chat": f"openai:gpt-x@{{url}}/v1?key={VARIABLE}",
    "responses": f"openai:gpt-x@{{url}}/v1?api=responses&key={VARIABLE}",
}
PROMPT = Prompt(
    operator=Operator.TRANSLATE,
    messages=(Message(role="system", text="You write CUDA."), Message(role="user", text="Write softmax.")),
    parents=(),
    template="translate",
    seed=1,
)

Start = Callable[[str, Script], Model]


@pytest.fixture
def start() -> Iterator[Start]:
    """A model with the key, over a server."""
    with ExitStack() as stack:

        def load(api: str, script: Script) -> Model:
            server = stack.enter_context(ProviderServer(script))
            return load_model(NAMES[api].format(url=server.url), key={VARIABLE: KEY}.get, sleep=lambda seconds: None)

        yield load


def echoed(request: Request) -> dict[str, Answer]:
    """All the ways in which a server can give the key back. It has it: that much is tested by these answers."""
    assert request.key == KEY
    body = json.dumps({"error": {"message": f"bad {KEY}", "type": f"type {KEY}", "code": f"code {KEY}"}}).encode()
    return {
        "a refused key": error(401, f"Incorrect API key provided: {KEY}."),
        "every field of an error": Answer(status=400, body=body),
        "a web page": Answer(status=502, body=f"<html>proxy: authorization: Bearer {KEY}</html>".encode()),
        "a header": Answer(status=429, body=b"{}", headers={"retry-after": KEY, "x-request-id": KEY}),
        "a redirect": Answer(status=302, body=KEY.encode(), headers={"location": f"http://127.0.0.1:9/{KEY}"}),
        "an error in the stream": reply("x" * 40, error=(f"server_error {KEY}", f"broke at {KEY}")),
        "no stream": Answer(body=f"{{{KEY}".encode(), content_type="text/event-stream"),
        "a stream of no shape": Answer(
            body=f'event: message_start\ndata: {{"{KEY}\n\n'.encode(), content_type="text/event-stream"
        ),
        "the reply": reply(f"use {KEY} here"),
        "the reply in pieces": reply(f"use {KEY} here", pieces=9),
        "a refusal": reply(KEY, finish="refusal"),
        "reasoning": reply("ok", thought=KEY),
    }


ECHOES = (
    "a refused key",
    "every field of an error",
    "a web page",
    "a header",
    "a redirect",
    "an error in the stream",
    "no stream",
    "a stream of no shape",
    "the reply",
    "the reply in pieces",
    "a refusal",
    "reasoning",
)


@pytest.mark.parametrize("api", NAMES)
@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_that_the_server_gives_back_is_in_no_text_record_or_log(
    echo: str, api: str, start: Start, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("anthropic", "openai", "httpx2", "httpcore2", "kernelevo"):
        caplog.set_level(logging.DEBUG, logger=name)
    failed: list[FailedCall] = []
    got: Reply | ModelError
    model = start(api, lambda request: echoed(request)[echo])
    try:
        got = model.propose(PROMPT, failed=failed.append)
    except ModelError as raised:
        got = raised
        assert raised.__context__ is raised.__cause__ is None  # the SDK's error holds the request and its headers
        assert KEY not in "".join(traceback.format_exception(raised))
    captured = capfd.readouterr()
    texts = [repr(got), str(got), repr(failed), repr(model), str(model), caplog.text, captured.out, captured.err]
    assert [text for text in texts if KEY in text] == []
    assert caplog.records  # the SDKs did log


def test_nothing_that_a_model_shows_of_itself_holds_its_key(start: Start) -> None:
    for api in NAMES:
        model = start(api, [reply("ok")])
        shown = [repr(model), repr(vars(model)), *(repr(value) for value in vars(model).values())]
        shown += [repr(vars(value)) for value in vars(model).values() if hasattr(value, "__dict__")]
        assert KEY not in "".join(shown)


@pytest.mark.parametrize("value", [f"{KEY}\x07", f"{KEY}\u00e4", f"{KEY}\nX-Evil: 1", f"{KEY[:5]}\u2028{KEY[5:]}"])
def test_a_value_that_cannot_be_a_key_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
        load_model("openai:gpt-x", key=lambda variable: value)
    assert KEY[:5] not in str(caught.value)


def test_white_space_around_a_key_is_not_part_of_it() -> None:
    assert provider_key("OPENAI_API_KEY", {"OPENAI_API_KEY": f" {KEY}\n"}) == KEY
    assert provider_key("OPENAI_API_KEY", {"OPENAI_API_KEY": " \n"}) is None
    assert secrets_present({"OPENAI_API_KEY": KEY}) == {"ANTHROPIC_API_KEY": False, "OPENAI_API_KEY": True}


@pytest.mark.parametrize("api", NAMES)
def test_a_server_at_a_url_gets_no_key_that_was_not_named_for_it(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(variable, KEY)
    with ProviderServer([reply("ok")]) as server:
        name = NAMES[api].format(url=server.url).replace(f"key={VARIABLE}", "max_tokens=100")
        load_model(name, key=os.environ.get).propose(PROMPT)
    assert server.requests[0].key == "none"


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"])
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_providers_own_key_is_not_sent_to_another_server(variable: str, kind: str) -> None:
    with pytest.raises(UsageError, match="its own provider only"):
        load_model(f"{kind}:m@https://elsewhere.example/v1?key={variable}", key=lambda name: KEY)


@pytest.mark.parametrize("api", NAMES)
def test_a_key_does_not_follow_a_redirect(api: str) -> None:
    with ProviderServer([reply("caught")]) as other:
        path = {"anthropic": "/v1/messages", "chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
        moved = Answer(status=307, body=b"moved", headers={"location": other.url + path})
        with ProviderServer([moved]) as server:
            model = load_model(NAMES[api].format(url=server.url), key={VARIABLE: KEY}.get)
            with pytest.raises(ModelError, match="307"):
                model.propose(PROMPT)
    assert not other.requests


def test_a_variable_of_the_sdks_does_not_send_requests_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProviderServer([reply("caught")]) as other, ProviderServer([reply("ok")]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", other.url)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{other.url}/v1")
        for name in NAMES.values():
            load_model(name.format(url=server.url), key={VARIABLE: KEY}.get).propose(PROMPT)
    assert not other.requests
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_without_a_url_a_key_goes_to_its_providers_host_encrypted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy on this machine is asked for the host, and would see everything that is not encrypted."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = proxy.accept()
                    with connection:
                        seen.append(connection.recv(65536))
                        connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        model = load_model(f"{kind}:some-model", key=lambda variable: KEY, sleep=lambda seconds: None)
        failed: list[FailedCall] = []
        with pytest.raises(ModelError, match="403"):
            model.propose(PROMPT, failed=failed.append)
        proxy.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert seen
    assert all(request.startswith(f"CONNECT api.{kind}.com:443 ".encode()) for request in seen)
    assert KEY.encode() not in b"".join(seen)
    assert {(call.kind, call.cost_usd) for call in failed} == {("connection", 0.0)}


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(UsageError, match="names are kept in archives") as caught:
        load_model(f"openai:m@http://user:{KEY}@host/v1")
    assert KEY not in str(caught.value)


def test_an_unknown_variable_is_named_and_nothing_of_the_environment_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(KernelevoError) as caught:
        load_model("anthropic:m", key=provider_key)
    assert "ANTHROPIC_API_KEY is not set" in str(caught.value)
    assert KEY not in str(caught.value)


def test_no_process_of_a_device_inherits_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", VARIABLE):
        monkeypatch.setenv(variable, KEY)
    before = set(descendants(os.getpid()))
    device = EmulatorDevice()
    try:
        if (why := device.unavailable()) is not None:
            pytest.skip(why)
        started = set(descendants(os.getpid())) - before
        assert started
        for process in started:
            environment = Path(f"/proc/{process}/environ").read_bytes()
            assert b"PATH=" in environment
            assert KEY.encode() not in environment
    finally:
        device.close()


def test_no_compiler_inherits_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", VARIABLE):
        monkeypatch.setenv(variable, KEY)
    finished = processes.run(["/bin/sh", "-c", "env"], folder=tmp_path, timeout_seconds=20)
    assert "PATH=" in finished.output
    assert KEY not in finished.output


def descendants(process: int) -> Iterator[int]:
    """Processes that a process started, and those that they started."""
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)
