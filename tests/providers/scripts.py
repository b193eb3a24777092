"""Scripts of answers about the task gelu, for whole runs against a provider's server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.providers.server import Answer, Request, error, reply

SEED = (Path(__file__).resolve().parents[2] / "tasks" / "gelu" / "seed.cu").read_text()


def kernel(number: int) -> str:
    """A correct kernel that differs from all others: its block size and a comment."""
    threads = (64, 128, 256, 512)[number % 4]
    return f"// kernel {number}\n" + SEED.replace("threads = 256", f"threads = {threads}")


def whole(number: int) -> Answer:
    return reply(f"PLAN: blocks of another size, {number}\n\n```cuda\n{kernel(number)}```\n")


def edit(number: int) -> Answer:
    return reply(
        f"PLAN: a comment, {number}\n<<<<<<< SEARCH\n#include <torch/extension.h>\n=======\n"
        f"#include <torch/extension.h>  // edit {number}\n>>>>>>> REPLACE\n"
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
    lambda n: reply(f"```cuda\n{kernel(n).replace('int64_t', 'int65_t', 1)}```"),  # does not compile
    lambda n: reply(f"```cuda\n{kernel(n).replace('0.5f', '0.25f')}```"),  # is wrong
    whole,
    edit,
)


def mixed(request: Request) -> Answer:
    """Every kind of failure in turn, and between any two of them a kernel."""
    number = request.number
    return whole(number) if number % 2 else MISTAKES[(number // 2) % len(MISTAKES)](number)


def good(request: Request) -> Answer:
    """A kernel for every request, made from what the prompt says and from nothing else: it can be asked again."""
    found = re.search(r"// kernel (\d+)", request.user)
    return whole(int(found[1]) + 1 if found else 0)


def judge(request: Request) -> Answer:
    return reply('{"verdict": "yes", "confidence": 0.9, "reason": "nothing is wrong with it"}')
