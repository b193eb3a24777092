"""A provider: a real HTTP server on this machine that speaks Anthropic's Messages and OpenAI's Chat and Responses.

It streams what a script tells it to, misbehaves as the script tells it to, and keeps a log of every request with what
it billed for it, so that a ledger can be compared with the other side's books.

    with ProviderServer([error(429), reply("hello")]) as server:
        model = load_model(f"openai:m@{server.url}/v1")  # anthropic:m@{server.url}
        ...
        server.log  # two entries

A script is a list of answers, one per request (after the last one, the last again), or a function Request -> Answer.
In a process of its own, which outlives a client that is killed:

    python -m tests.providers.server --script MODULE:NAME --log FILE    # prints its URL, then one line per log entry

Tokens are counted as characters / 4, rounded up. A system message is read from the cache when it was seen before
(Anthropic: and marked for it). What a client did not wait for is billed as far as it was written.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

APIS = {"/v1/messages": "anthropic", "/v1/chat/completions": "chat", "/v1/responses": "responses"}
FINISHES = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "refusal": "refusal"},
    "chat": {"stop": "stop", "length": "length", "refusal": "content_filter"},
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client asked for."""

    number: int  # from 0, in the order of arrival
    api: str  # "anthropic", "chat" or "responses"
    body: dict[str, Any]
    key: str = field(repr=False)  # as it was sent; "" for none

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def system(self) -> str:
        if self.api == "responses":
            return self.body.get("instructions", "")
        if self.api == "anthropic":
            return "\n\n".join(block["text"] for block in self.body.get("system", []))
        return "\n\n".join(message["content"] for message in self.body["messages"] if message["role"] == "system")

    @property
    def user(self) -> str:
        messages = self.body["input" if self.api == "responses" else "messages"]
        return "\n\n".join(message["content"] for message in messages if message["role"] == "user")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to do with a request. By default: stream `text`, tell the usage, and end as the API ends."""

    text: str = ""
    finish: str = "stop"  # or "length", "refusal"
    pieces: int = 4  # that the text comes in
    thought: str = ""  # reasoning shown before the text
    reasoning_tokens: int = 0  # reasoning not shown
    usage: bool = True  # whether the usage is told
    wait_seconds: float = 0.0  # before anything is answered
    pause_seconds: float = 0.0  # before each piece
    ping_seconds: float = 0.0  # after the first piece: nothing but pings, for so long
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # sent instead of everything above
    content_type: str = "application/json"  # of the body
    error: tuple[str, str] | None = None  # type and message that end the stream after half of the pieces
    cut: str = ""  # after half of the pieces: "closed" breaks the connection, "ended" ends the response in order
    drop: bool = False  # closes the connection without a word


def reply(text: str, **more: Any) -> Answer:
    return Answer(text=text, **more)


def error(status: int, message: str = "it went wrong", *, kind: str = "some_error", **headers: str) -> Answer:
    """An error status, in the words of both providers: their bodies differ in nothing that matters here."""
    body = {"type": "error", "error": {"type": kind, "message": message}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=names, body=json.dumps(body).encode())


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the log keeps of one request."""

    number: int
    api: str
    model: str
    status: int  # 0: the connection was dropped
    billed: bool  # whether it costs anything
    delivered: bool  # whether all of the answer could be written
    finish: str  # "" where no reason to stop was sent
    input_tokens: int = 0  # all of them
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0  # all of them, as far as they were written
    seconds: float


Script = Callable[[Request], Answer] | Sequence[Answer]


class ProviderServer:
    """The server, from `with` to its end. `url` is without a path; `log` grows as requests end."""

    def __init__(
        self, script: Script, *, port: int = 0, log_path: Path | None = None, latency_seconds: float = 0.0
    ) -> None:
        """latency_seconds: added before every answer. log_path: gets each entry as a line of JSON."""
        self.script = script
        self.log: list[Entry] = []
        self.requests: list[Request] = []
        self.open = 0  # requests being answered now
        self.most_open = 0  # at the same time, so far
        self.latency_seconds = latency_seconds
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self._log_path = log_path
        self._cached: set[str] = set()

        self._faults: list[BaseException | None] = []
        faults = self._faults

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no fault of ours; what else happens ends the test that uses us."""
                if not isinstance(fault := sys.exception(), ConnectionError):
                    faults.append(fault)

        handler = type("BoundHandler", (Handler,), {"provider": self})
        self._server = Server(("127.0.0.1", port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ProviderServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        for fault in self._faults:
            raise fault

    def wait_for_log(self, entries: int, seconds: float = 5.0) -> list[Entry]:
        """The log once it has so many entries: a client can be done before the server has written its own down."""
        deadline = time.monotonic() + seconds
        while len(self.log) < entries and time.monotonic() < deadline:
            time.sleep(0.005)
        assert len(self.log) >= entries, f"{len(self.log)} of {entries} requests ended"
        return self.log

    def receive(self, api: str, body: dict[str, Any], key: str) -> tuple[Request, Answer]:
        with self.lock:
            request = Request(number=len(self.requests), api=api, body=body, key=key)
            self.requests.append(request)
        if callable(self.script):
            return request, self.script(request)
        return request, self.script[min(request.number, len(self.script) - 1)]

    def write_down(self, entry: Entry) -> None:
        with self.lock:
            self.log.append(entry)
            if self._log_path is not None:
                with self._log_path.open("a") as file:
                    file.write(json.dumps(asdict(entry)) + "\n")

    def cache(self, request: Request) -> tuple[int, int]:
        """Tokens of the system message that are read from the cache, and that are written to it."""
        marked = request.api != "anthropic" or any("cache_control" in b for b in request.body.get("system", []))
        if not request.system or not marked:
            return 0, 0
        with self.lock:
            seen = request.system in self._cached
            self._cached.add(request.system)
        return (count(request.system), 0) if seen else (0, count(request.system))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    provider: ClassVar[ProviderServer]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        started = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
        api = APIS[self.path]
        provider = self.provider
        request, answer = provider.receive(api, body, key)
        with provider.lock:
            provider.open += 1
            provider.most_open = max(provider.most_open, provider.open)
        sent = Sent()
        delivered = False
        try:
            provider.closing.wait(provider.latency_seconds + answer.wait_seconds)
            self.answer(request, answer, sent)
            delivered = not answer.drop
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with provider.lock:
                provider.open -= 1
            entry = Entry(
                number=request.number,
                api=api,
                model=request.model,
                status=0 if answer.drop else answer.status,
                billed=sent.billed,
                delivered=delivered,
                finish=sent.finish,
                input_tokens=sent.input_tokens,
                cached_tokens=sent.cached_tokens,
                written_tokens=sent.written_tokens,
                output_tokens=sent.output_tokens,
                seconds=time.monotonic() - started,
            )
            provider.write_down(entry)

    def answer(self, request: Request, answer: Answer, sent: Sent) -> None:
        if answer.drop:
            self.close_connection = True
            return
        if answer.body is not None:
            self.send_response(answer.status)
            for name, value in {"content-type": answer.content_type, **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        sent.billed = True
        sent.cached_tokens, sent.written_tokens = self.provider.cache(request)
        sent.input_tokens = count(request.system) + count(request.user)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        stream = {"anthropic": anthropic_events, "chat": chat_events, "responses": responses_events}[request.api]
        for event in stream(request, answer, sent):
            if isinstance(event, float):
                if self.provider.closing.wait(event):
                    self.close_connection = True
                    return
                continue
            if event == "cut":
                self.close_connection = True
                if answer.cut == "ended":
                    break
                return
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        """The provider keeps its own log."""


@dataclass
class Sent:
    """What was written of an answer, and so is billed."""

    billed: bool = False
    finish: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    output_tokens: int = 0


def anthropic_events(request: Request, answer: Answer, sent: Sent) -> Iterator[str | float]:
    """https://platform.claude.com/docs/en/build-with-claude/streaming"""

    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

    usage = {
        "input_tokens": sent.input_tokens - sent.cached_tokens - sent.written_tokens,
        "cache_read_input_tokens": sent.cached_tokens,
        "cache_creation_input_tokens": sent.written_tokens,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": request.model}
    yield event("message_start", message={**message, "stop_reason": None, "stop_sequence": None, "usage": usage})
    for index, (kind, piece) in enumerate(parts(answer, sent)):
        if kind == "text":
            if index == 0:
                block = {"type": "text", "text": ""}
                yield event("content_block_start", index=0, content_block=block)
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        elif kind == "thought":
            delta = {"type": "thinking_delta", "thinking": piece}
            yield event("content_block_delta", index=0, delta=delta)
        elif kind == "error":
            assert answer.error is not None
            yield event("error", error={"type": answer.error[0], "message": answer.error[1]})
            return
        else:
            yield {"ping": event("ping"), "cut": "cut"}.get(kind) or float(piece)
            if kind == "cut":
                return
    yield event("content_block_stop", index=0)
    sent.finish = answer.finish
    details = {"type": "refusal", "explanation": "it may do harm"} if answer.finish == "refusal" else None
    told = {"output_tokens": sent.output_tokens} if answer.usage else {}
    if answer.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": answer.reasoning_tokens}
    delta = {"stop_reason": FINISHES["anthropic"][answer.finish], "stop_sequence": None, "stop_details": details}
    yield event("message_delta", delta=delta, usage=told)
    yield event("message_stop")


def chat_events(request: Request, answer: Answer, sent: Sent) -> Iterator[str | float]:
    """https://developers.openai.com/api/reference/resources/chat (streaming)"""

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": request.model}
        return f"data: {json.dumps({**data, 'choices': [choice], **more})}\n\n"

    yield chunk({"role": "assistant", "content": ""})
    for kind, piece in parts(answer, sent):
        if kind == "text":
            yield chunk({"refusal" if answer.finish == "refusal" else "content": piece})
        elif kind == "thought":
            yield chunk({"reasoning_content": piece})
        elif kind == "error":
            assert answer.error is not None
            yield f"data: {json.dumps({'error': {'type': answer.error[0], 'message': answer.error[1]}})}\n\n"
            return
        else:
            yield {"ping": ": ping\n\n", "cut": "cut"}.get(kind) or float(piece)
            if kind == "cut":
                return
    sent.finish = answer.finish
    yield chunk({}, FINISHES["chat"][answer.finish])
    if answer.usage and request.body.get("stream_options", {}).get("include_usage"):
        usage = {
            "prompt_tokens": sent.input_tokens,
            "completion_tokens": sent.output_tokens,
            "total_tokens": sent.input_tokens + sent.output_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sent.cached_tokens,
                "cache_write_tokens": sent.written_tokens,
            },
            "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        }
        yield chunk({}, usage=usage, choices=[])
    yield "data: [DONE]\n\n"


def responses_events(request: Request, answer: Answer, sent: Sent) -> Iterator[str | float]:
    """https://developers.openai.com/api/docs/guides/streaming-responses"""

    def event(kind: str, **data: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': 1, **data})}\n\n"

    def response(status: str, **more: Any) -> dict[str, Any]:
        shared = {"id": "resp_1", "object": "response", "model": request.model, "status": status, "output": []}
        return {**shared, "usage": None, "error": None, "incomplete_details": None, **more}

    yield event("response.created", response=response("in_progress"))
    for kind, piece in parts(answer, sent):
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        if kind == "text":
            name = "refusal" if answer.finish == "refusal" else "output_text"
            yield event(f"response.{name}.delta", delta=piece, **at)
        elif kind == "thought":
            yield event("response.reasoning_summary_text.delta", delta=piece, **at)
        elif kind == "error":
            assert answer.error is not None
            failed = {"code": answer.error[0], "message": answer.error[1]}
            yield event("response.failed", response=response("failed", error=failed))
            return
        else:
            yield {"ping": ": ping\n\n", "cut": "cut"}.get(kind) or float(piece)
            if kind == "cut":
                return
    usage = {
        "input_tokens": sent.input_tokens,
        "input_tokens_details": {"cached_tokens": sent.cached_tokens, "cache_write_tokens": sent.written_tokens},
        "output_tokens": sent.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": sent.input_tokens + sent.output_tokens,
    }
    told = usage if answer.usage else None
    sent.finish = answer.finish
    if answer.finish == "length":
        details = {"reason": "max_output_tokens"}
        yield event("response.incomplete", response=response("incomplete", usage=told, incomplete_details=details))
    else:
        yield event("response.completed", response=response("completed", usage=told))


def parts(answer: Answer, sent: Sent) -> Iterator[tuple[str, str]]:
    """The answer in the order of its parts: ("text" | "thought" | "pause" | "ping" | "error" | "cut", what).

    What is yielded next counts as written: output tokens are those of all text and thought so far.
    """
    written = ""
    sent.output_tokens = answer.reasoning_tokens
    size = max(1, -(-len(answer.text) // answer.pieces))
    pieces = [answer.text[start : start + size] for start in range(0, len(answer.text), size)]
    half = (len(pieces) + 1) // 2
    if answer.thought:
        written += answer.thought
        sent.output_tokens = answer.reasoning_tokens + count(written)
        yield "thought", answer.thought
    for index, piece in enumerate(pieces):
        if index == half and (answer.cut or answer.error):
            break
        if answer.pause_seconds:
            yield "pause", str(answer.pause_seconds)
        written += piece
        sent.output_tokens = answer.reasoning_tokens + count(written)
        yield "text", piece
        if index == 0:
            for _ in range(round(answer.ping_seconds / 0.02)):
                yield "pause", "0.02"
                yield "ping", ""
    if answer.error:
        yield "error", ""
    if answer.cut:
        yield "cut", ""


def count(text: str) -> int:
    return -(-len(text) // 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", required=True, help="MODULE:NAME of a list of answers or of Request -> Answer")
    parser.add_argument("--log", type=Path, help="file that gets a line of JSON per request")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    given = parser.parse_args()
    module, _, name = given.script.partition(":")
    script = getattr(importlib.import_module(module), name)
    with ProviderServer(script, port=given.port, log_path=given.log, latency_seconds=given.latency) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
