"""What the tests of answers with files have in common: the files, and how they are asked for."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.harness import procs
from tests.harness.waiting import until

MIB = 1 << 20
FULL = r"\[DANGER\] async queue is full !!!$"
FAILS = [r"Traceback", r"^\w*(Error|Gone): ", r"^OSError"]
SMALL = b"".join(b"%07d\n" % number for number in range(625))
# More than the buffers of two sockets hold.
LARGE_SIZE = 16 * MIB
HUGE_SIZE = 50 * MIB
FAR = (1 << 32) + 5
"""Where a number of 32 bits has overflowed."""
CUT = r"cannot send the rest of a file: it has become shorter since it was opened"
NOT_THERE = r"the application hands over a file that is not there, or that it may not hand over"
LEADS_OUT = r"\[fileserve\] security error: \S*/secret is not under \S*/root or a safe path"
# In each of these ways the core is free before the file has left.
FREEING = ["wrapper", "handed", "accel"]
WAYS = ["sendfile", *FREEING]


@dataclass(frozen=True)
class Files:
    """What there is to send: all below `root`, and something beside it."""

    root: Path
    outside: Path
    large_hash: str
    huge_hash: str

    def __getattr__(self, name):
        return self.root / name


def make_large(path, size=LARGE_SIZE):
    """Each piece is another one; its hash."""
    data = random.Random(7).randbytes(MIB)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // MIB):
            part = b"%08d" % number + data[8:]
            file.write(part)
            digest.update(part)
    return digest.hexdigest()


def target(how, path="", **query):
    """`accel` is `handed` by the other field, the path as the server's own name."""
    if how == "accel":
        how, query["field"] = "handed", "X-Accel-Redirect"
        path = f"/internal/{Path(path).name}"
    return f"/{how}?{urlencode({'path': path, **query}, doseq=True)}"


def hands_over(files):
    return ("--x-sendfile", str(files.root), "--x-accel-redirect", f"/internal={files.root}")


def warmed(server, files, name="empty"):
    """Who looks for files that are handed over comes with the first one, with a descriptor."""
    if not has_helper(server.worker()):
        assert server.get(target("handed", files.root / name)).status == 200
        server.wait_requests(1)
        server.begin()
        server.baseline = {pid: procs.open_files(pid) for pid in server.workers()}
    return server


def has_helper(pid):
    names = [task.read_text().strip() for task in Path(f"/proc/{pid}/task").glob("*/comm")]
    return "greenloom-helpe" in names


def begun(server, target_, **how):
    """A client with the head of a large file, and not much more: its buffer is full."""
    client = server.http(receive_buffer=4096, **how)
    client.send_request(target=target_)
    client.head = client.read_head()
    assert client.head.status == 200
    return client


def rest(client):
    """The hash of the body, read to its end; and the connection is still one."""
    return hashlib.sha256(client.read_body(client.head).body).hexdigest()


def is_truncated(client):
    """Whether the body breaks off: then what came of it."""
    got = len(client.buffer)
    try:
        while client.fill(1 << 20):
            got += len(client.buffer)
            client.buffer = b""
    except ConnectionResetError:
        pass
    return got


def line_of(server, how):
    def found():
        return [line for line in server.log_requests() if line.uri.startswith(f"/{how}?")]

    (line,) = until(found, f"the request line of {how}")
    return line
