"""Uploads of any size and shape: says what arrived, and its SHA-256.

The server calls the application when the whole body is there (in memory, or above
`--post-buffering` in a temporary file), so reading it never blocks, and a slow sender costs
no core.
"""

import hashlib
import json

FORM = b"""<!doctype html><title>uploads</title>
<form method="post" enctype="multipart/form-data">
<input type="file" name="file"> <button>Send</button></form>
"""

PIECE = 64 * 1024


def application(env, start_response):
    if env["REQUEST_METHOD"] in ("GET", "HEAD"):
        start_response(
            "200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(FORM)))]
        )
        return [FORM]
    return receive(env, start_response)


def receive(env, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    size, digest = 0, hashlib.sha256()
    while piece := env["wsgi.input"].read(PIECE):
        size += len(piece)
        digest.update(piece)
        yield b""  # hashing takes time: let the others run between two pieces
    report = {
        "size": size,
        "sha256": digest.hexdigest(),
        "content_length": env.get("CONTENT_LENGTH"),
        "content_type": env.get("CONTENT_TYPE"),
    }
    yield json.dumps(report).encode() + b"\n"
