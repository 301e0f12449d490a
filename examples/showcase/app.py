"""The page that links to the examples. They are mounted beside it, see showcase.ini."""

from pathlib import Path

PAGE = Path(__file__).with_name("page.html").read_bytes()


def application(env, start_response):
    if env["PATH_INFO"] == "/favicon.ico":
        # Browsers ask for it beside the examples' plain text.
        start_response("204 No Content", [("Cache-Control", "max-age=86400")])
        return []
    if env["PATH_INFO"] not in ("", "/"):
        return answer(start_response, "404 Not Found", "text/plain", b"no such page\n")
    return answer(start_response, "200 OK", "text/html; charset=utf-8", PAGE)


def answer(start_response, status, content_type, body):
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]
