"""Responses of every shape, named by the last part of the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "asgi_support"))

from asgi_support import TEXT, application_of


async def length(request):
    await request.start(headers=[TEXT, (b"content-length", b"6")])
    await request.part(b"abc")
    await request.part(b"def", more=False)


async def one_part(request):
    await request.answer(b"one part")


async def parts(request):
    await request.start()
    for part in (b"one", b"", b"two", b"three"):
        await request.part(part)
    await request.part(b"", more=False)


async def last_with_bytes(request):
    await request.start()
    await request.part(b"one")
    await request.part(b"two", more=False)


async def empty(request):
    await request.answer()


async def empty_of(request):
    """Without any key that has a default."""
    await request.send({"type": "http.response.start", "status": 200})
    await request.send({"type": "http.response.body"})


async def status(request):
    await request.answer(b"", int(request.query["code"]), [])


async def body_with_status(request):
    await request.answer(b"some", int(request.query["code"]))


async def length_with_status(request):
    await request.answer(b"", int(request.query["code"]), [(b"content-length", b"4")])


async def kinds(request):
    await request.start()
    await request.part(bytearray(b"bytearray "))
    await request.part(memoryview(b"memoryview "))
    await request.part(memoryview(b"s.l.i.c.e.d. ")[::2])
    await request.part(b"bytes", more=False)


async def reused(request):
    """A buffer that is written again as soon as send() has come back."""
    await request.start()
    buffer = bytearray(4)
    for number in range(200):
        buffer[:] = b"%04d" % number
        await request.part(buffer)
    await request.part(b"", more=False)


async def headers(request):
    await request.start(
        headers=[
            (b"Set-Cookie", b"a=b"),
            (b"X-Order", b"1"),
            (b"set-cookie", b"c=d"),
            [b"x-list", b"as a list"],
            (b"x-bytes", b"\xe9\xff"),
            (b"x-empty", b""),
        ]
    )
    await request.part(b"", more=False)


async def headers_of_any_kind(request):
    """Iterables of pairs, as the specification has it."""
    pairs = iter([iter([b"x-a", b"1"]), (b"x-b", b"2")])
    await request.send({"type": "http.response.start", "status": 200, "headers": pairs})
    await request.part(b"", more=False)


async def own_server_headers(request):
    await request.answer(
        b"", headers=[(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"of its own")]
    )


async def close(request):
    await request.answer(b"closes", headers=[(b"connection", b"close")])


async def own_chunked(request):
    """Some say it themselves; the body is not coded by them."""
    await request.start(headers=[(b"transfer-encoding", b"chunked")])
    await request.part(b"one")
    await request.part(b"two", more=False)


async def many(request):
    await request.start()
    for number in range(1000):
        await request.part(b"%d\n" % number)
    await request.part(b"", more=False)


async def large(request):
    await request.answer(b"l" * (5 << 20))


async def trailers_key(request):
    """A key of an extension that is not offered says nothing while it is false."""
    await request.send({"type": "http.response.start", "status": 200, "trailers": False})
    await request.part(b"none", more=False)


application = application_of(globals())
