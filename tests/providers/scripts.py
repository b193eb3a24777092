"""Scripts of answers about the task gelu, for whole runs against a provider's server."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

from providers.server import Answer, Request, error, reply

SEED = (Path(__file__).resolve().parents[2] / "tasks" / "gelu" / "seed.cu").read_text()


def kernel(number: int) -> str:
    """A correct kernel that differs from all others in its names; it has one of four block sizes."""
    text = SEED.replace("threads = 256", f"threads = {(64, 128, 256, 512)[number % 4]}")
    for name in ("gelu_kernel", "value", "threads", "blocks", "n", "i"):
        text = re.sub(rf"\b{name}\b", f"{name}_{number}", text)
    return f"// kernel {number}\n{text}"


def whole(number: int) -> Answer:
    return reply(f"PLAN: blocks of another size, {number}\n\n```cuda\n{kernel(number)}```\n")


def edit(number: int) -> Answer:
    lines = "\n".join(f"static const int unused_{number}_{i} = {i};" for i in range(6))
    return reply(
        f"PLAN: constants, {number}\n<<<<<<< SEARCH\n#include <torch/extension.h>\n=======\n"
        f"#include <torch/extension.h>\n{lines}\n>>>>>>> REPLACE\n"
    )


MISTAKES: tuple[Callable[[int], Answer], ...] = (
    lambda n: error(429, "slow down", kind="rate_limit_error", retry_after="0"),
    lambda n: error(500, "it broke", kind="api_error"),
    lambda n: reply("half of it", cut="closed"),
    lambda n: Answer(body=b"data: {not json\n\n", content_type="text/event-stream"),
    lambda n: Answer(drop=True),
    lambda n: reply("I cannot help with that.", finish="refusal"),
    lambda n: reply("Here is some prose about GELU, and no kernel."),
    lambda n: reply(f"```cuda\n{kernel(n)[:200]}", finish="length"),
    lambda n: reply(f"```cuda\n{kernel(n).replace('int ', 'integer ', 1)}```"),  # does not compile
    lambda n: reply(f"```cuda\n{kernel(n).replace('0.5f', '0.25f')}```"),  # is wrong
    whole,
    edit,
)


def mixed(request: Request) -> Answer:
    """Every kind of failure in turn, and after any two of them a kernel."""
    number = request.number
    return whole(number) if number % 3 == 2 else MISTAKES[(number - number // 3) % len(MISTAKES)](number)


def good(request: Request) -> Answer:
    """A kernel for every request, made from what the prompt says and from nothing else: asked again, it is the same."""
    return whole(zlib.crc32(request.user.encode()) % 1_000_000)


def judge(request: Request) -> Answer:
    return reply('{"verdict": "yes", "confidence": 0.9, "reason": "nothing is wrong with it"}')
