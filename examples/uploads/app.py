"""Uploads of any size and shape: says what arrived, and its SHA-256.

The server calls the application when the whole body is there (in memory, or above
`--post-buffering` in a temporary file), so reading it never blocks, and a slow sender costs
no core.
"""

import hashlib
import json

FORM = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>uploads</title>
<style>
  :root { color-scheme: light dark }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 1rem }
</style>
<h1>Uploads</h1>
<p>The answer is the size of the body and its SHA-256. A form wraps the file into a multipart body;
  <code>curl --data-binary @file</code> sends it as it is.</p>
<form method="post" enctype="multipart/form-data">
  <input type="file" name="file" aria-label="File" required> <button>Send</button>
</form>
</html>
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
