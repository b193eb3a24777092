"""Keeps a provider's key out of texts, and out of the logs of the libraries that send it.

Takes a key, gives a function that replaces it in a text. The libraries hide the headers that they send; but at level
DEBUG they log what a server answers, and a server may give the key back. What is encoded in another way than it was
given (base64, say) is not recognised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

# A filter sees the records of its own logger only, not of those below it.
LOGGERS = (
    "anthropic._base_client",
    "openai._base_client",
    "httpx2",
    *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")),
)


def redactor(key: str | None) -> Callable[[str], str]:
    """Replaces the key wherever it stands in a text. From now on, the libraries' logs do without it, too."""
    if key is None:
        return lambda text: text
    keys_in_logs.add(key)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(keys_in_logs)  # once: a filter that is there is not added again
    return lambda text: text.replace(key, "[key]")


class KeysInLogs(logging.Filter):
    """Replaces keys in log records."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: frozenset[str] = frozenset()

    def add(self, key: str) -> None:
        self._keys |= {key}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        for key in self._keys:
            if key in text:
                record.msg = text = text.replace(key, "[key]")
                record.args = ()
        return True


keys_in_logs = KeysInLogs()
