"""The default request line, field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

LINE = re.compile(
    r"\[pid: (?P<pid>\d+)\|app: (?P<app>-?\d+)\|req: (?P<started>-?\d+)/(?P<total>\d+)\] "
    r"(?P<address>[^(]*) \((?P<user>[^)]*)\) "
    r"\{(?P<variables>\d+) vars in (?P<variable_bytes>\d+) bytes\} "
    r"\[(?P<date>[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})\] "
    r"(?P<method>\S*) (?P<uri>\S*) => "
    r"generated (?P<body_bytes>\d+) bytes in (?P<msecs>\d+) msecs "
    r"(?:via (?P<via>\w+)\(\) )?"
    r"\((?P<protocol>\S+) (?P<status>\d+)\) "
    r"(?P<headers>\d+) headers in (?P<header_bytes>\d+) bytes "
    r"\((?P<switches>\d+) switches on core (?P<core>-?\d+)\)"
    r"(?: \[cancelled: (?P<cancelled>client gone|deadline|stop)\](?P<abandoned> \[abandoned\])?)?"
)


@dataclass(frozen=True)
class LoggedRequest:
    """One parsed request line."""

    pid: int
    app: int
    started: int
    total: int
    address: str
    user: str
    variables: int
    variable_bytes: int
    date: str
    method: str
    uri: str
    body_bytes: int
    msecs: int
    via: str | None
    protocol: str
    status: int
    headers: int
    header_bytes: int
    switches: int
    core: int
    """-1: it needed none."""
    cancelled: str | None
    """Why it was ended before its time: "client gone", "deadline" or "stop"."""
    abandoned: bool
    """It would not end and was given up."""


TEXT_FIELDS = {"address", "user", "date", "method", "uri", "protocol"}


@lru_cache(maxsize=1 << 15)  # Whoever waits for a line reads all those before it again and again.
def parse(line: str) -> LoggedRequest | None:
    """None when the line is not, from its first to its last character, a request line."""
    match = LINE.fullmatch(line)
    if match is None:
        return None
    fields = match.groupdict()
    via, cancelled = fields.pop("via"), fields.pop("cancelled")
    abandoned = fields.pop("abandoned") is not None
    values = {k: v if k in TEXT_FIELDS else int(v) for k, v in fields.items()}
    return LoggedRequest(via=via, cancelled=cancelled, abandoned=abandoned, **values)
