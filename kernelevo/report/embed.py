"""Values to text that may stand inside a page, whatever is in them.

json_text(value)     -> JSON for a <script type="application/json">: no "<" in it, so no tag and no comment begins
chunks(values)       -> JSON, compressed and in base64, for candidates that are unpacked when they are asked for
policy(scripts)      -> the Content-Security-Policy that runs these scripts, and forbids all network
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable


def json_text(value: object) -> str:
    """value: what json.dumps takes, or a text that is JSON already."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def chunks(values: Iterable[object]) -> list[str]:
    return [
        base64.b64encode(gzip.compress(json.dumps(value, separators=(",", ":")).encode(), mtime=0)).decode()
        for value in values
    ]


def policy(scripts: Iterable[str]) -> str:
    """Styles may be anywhere, because plotly sets them; scripts are these, by their hashes."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
