"""The tools of the websocket tests, tried on a server that is not ours: that of `websockets`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.harness import autobahn as fuzzing_client
from tests.harness import procs
from tests.harness.chromium import Chromium, Failed, program
from tests.harness.http import Client, Response, Truncated
from tests.harness.nginx import Nginx
from tests.harness.waiting import until
from tests.harness.websocket import (
    BINARY,
    CONTINUATION,
    DEFLATE,
    PING,
    PONG,
    RSV1,
    TEXT,
    BadFrame,
    Frame,
    WebSocket,
    close_payload,
    deflated,
    encode,
    handshake,
    inflated,
    masked,
)

PEER = """
import asyncio, http, sys
from websockets.asyncio.server import broadcast, serve
from websockets.datastructures import Headers
from websockets.http11 import Response

PAGE = b'''<!doctype html><title>chat</title><meta name="viewport" content="width=device-width">
<input id="say"><ul id="said"></ul><script>
const socket = new WebSocket(`ws://${location.host}/chat`);
socket.onopen = () => { document.title = "open"; };
socket.onmessage = event => {
  const line = document.createElement("li");
  line.textContent = event.data;
  said.append(line);
};
say.onkeydown = event => { if (event.key === "Enter") { socket.send(say.value); say.value = ""; } };
</script>'''
members = set()

def page(connection, request):
    if "Upgrade" not in request.headers:
        return Response(200, "OK", Headers({"Content-Type": "text/html"}), PAGE)

def choose(connection, offered):
    return "chat" if "chat" in offered else None

async def serve_one(websocket):
    if websocket.request.path != "/chat":
        async for message in websocket:
            await websocket.send(message)
        return
    members.add(websocket)
    try:
        async for message in websocket:
            broadcast(members, message)
    finally:
        members.discard(websocket)

async def main():
    how = dict(process_request=page, select_subprotocol=choose, max_size=64 << 20)
    async with serve(serve_one, "127.0.0.1", 0, **how) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def peer():
    """The address of a server that echoes, chats at /chat, and has a page for that at /."""
    process = subprocess.Popen(
        [sys.executable, "-c", PEER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Some of Autobahn's messages come in more.
        env={**os.environ, "WEBSOCKETS_MAX_FRAGMENTS": str(1 << 20)},
    )
    yield ("127.0.0.1", int(process.stdout.readline()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def websocket(peer):
    with WebSocket.open(Client(peer)) as made:
        yield made


class TestFrames:
    def test_a_frame_of_the_rfc(self):
        # Section 5.7.
        assert encode(TEXT, b"Hello", mask=None).hex() == "810548656c6c6f"
        mask = bytes.fromhex("37fa213d")
        assert encode(TEXT, b"Hello", mask=mask).hex() == "818537fa213d7f9f4d5158"
        assert encode(BINARY, bytes(256), mask=None)[:4].hex() == "827e0100"
        assert encode(BINARY, bytes(65536), mask=None)[:10].hex() == "827f0000000000010000"
        assert masked(masked(b"abcdefg", mask), mask) == b"abcdefg"

    def test_wrong_frames(self):
        assert encode(BINARY, b"", length=1 << 63, mask=None).hex() == "827f8000000000000000"
        assert encode(TEXT, b"a", form=64, mask=None).hex() == "817f000000000000000161"
        assert encode(CONTINUATION, fin=False, rsv=7, mask=None).hex() == "7000"

    def test_deflate(self):
        # RFC 7692, section 7.2.3.1.
        assert deflated(b"Hello").hex() == "f248cdc9c90700"
        assert inflated(deflated(b"abc" * 1000)) == b"abc" * 1000

    @pytest.mark.parametrize(
        "data",
        [
            encode(TEXT, b"a"),
            encode(TEXT, b"a", rsv=RSV1, mask=None),
            encode(3, b"", mask=None),
            encode(PING, b"", fin=False, mask=None),
            encode(PING, bytes(126), mask=None),
            encode(TEXT, b"a", form=16, mask=None),
            encode(TEXT, bytes(200), form=64, mask=None),
            encode(BINARY, b"", length=1 << 63, mask=None),
        ],
        ids=["mask", "rsv", "opcode", "fragment", "control", "form16", "form64", "length"],
    )
    def test_what_no_server_may_send(self, tmp_path, data):
        with pytest.raises(BadFrame):
            self.reader(tmp_path, data).read_frame()

    def test_messages_are_put_together(self, tmp_path):
        parts = [
            encode(TEXT, b"a", fin=False, mask=None),
            encode(PONG, b"!", mask=None),
            encode(CONTINUATION, b"b", mask=None),
        ]
        assert self.reader(tmp_path, b"".join(parts)).read_message() == (TEXT, b"ab")
        with pytest.raises(BadFrame):
            self.reader(tmp_path, parts[0] + parts[0]).read_message()
        with pytest.raises(BadFrame):
            self.reader(tmp_path, parts[2]).read_message()
        with pytest.raises(Truncated):
            self.reader(tmp_path, parts[2][:-1]).read_message()

    def reader(self, tmp_path, data):
        """Reads these bytes and the end."""

        class Bytes(Client):
            def __init__(self, data):
                self.buffer = data

            def fill(self, size=0):
                return False

        return WebSocket(Bytes(data), Response("HTTP/1.1", 101, "", []))


class TestClient:
    def test_echo(self, websocket):
        for text in ("", "héllo", "x" * 126, "y" * 70_000):
            websocket.text(text)
            assert websocket.read_text() == text
        websocket.binary(b"\0\xff")
        assert websocket.read_binary() == b"\0\xff"
        websocket.fragments(TEXT, "h€".encode()[:2], "h€".encode()[2:])
        assert websocket.read_text() == "h€"
        websocket.ping(b"there?")
        assert websocket.read_frame() == Frame(PONG, b"there?")
        assert websocket.finish(1001, "bye") == (1001, "bye")

    def test_single_bytes(self, websocket):
        websocket.client.send_pieces(encode(TEXT, b"slow"))
        assert websocket.read_text() == "slow"

    def test_failures(self, peer):
        for data, code in [
            (encode(TEXT, b"a", mask=None), 1002),
            (encode(TEXT, b"\xff"), 1007),
            (encode(BINARY, length=1 << 62), 1009),
            (encode(8, close_payload(1005)), 1002),
        ]:
            with WebSocket.open(Client(peer)) as websocket:
                websocket.send_bytes(data)
                assert websocket.failed() == code

    def test_handshakes(self, peer):
        with WebSocket.open(Client(peer), protocols=["other", "chat"]) as websocket:
            assert (websocket.protocol, websocket.extensions) == ("chat", None)
        with WebSocket.open(Client(peer), extensions=DEFLATE) as websocket:
            assert websocket.extensions.startswith(DEFLATE)
            websocket.send(TEXT, deflated(b"a" * 1000), rsv=RSV1)
            assert websocket.read_message() == (TEXT, b"a" * 1000)
        with Client(peer) as client:
            assert handshake(client, version="12").status == 400

    def test_through_nginx(self, peer, tmp_path):
        front = Nginx(tmp_path / "nginx", peer, proxy=True)
        front.start()
        try:
            assert front.request().status == 200
            with WebSocket.open(front.client()) as websocket:
                websocket.text("through")
                assert websocket.read_text() == "through"
        finally:
            front.stop()


class TestAutobahn:
    @pytest.mark.timeout(300)
    def test_a_few_cases(self, peer, autobahn):
        cases = ["1.1.*", "7.1.1", "9.1.1", "13.1.1"]
        found = autobahn("ws://{}:{}".format(*peer), cases, exclude=["1.1.8"], messages=3)
        assert list(found) == [*(f"1.1.{n}" for n in range(1, 8)), *cases[1:]]
        assert found["13.1.1"].told()["trafficStats"]["incomingWebSocketMessages"] == 3
        assert fuzzing_client.not_strict(found.values()) == []

    def test_a_server_that_is_not_strict(self, peer, autobahn):
        (case,) = autobahn("ws://{}:{}".format(*peer), ["3.2"]).values()
        assert (case.behavior, case.strict) == ("NON-STRICT", False)
        assert fuzzing_client.not_strict([case])[0].startswith("3.2: NON-STRICT, close OK (1002)")

    def test_nobody_there(self, autobahn):
        with pytest.raises(AssertionError, match="0 cases ran"):
            autobahn("ws://127.0.0.1:1", ["1.1.1"])


class TestChromium:
    def test_two_windows_chat(self, peer, chromium, tmp_path):
        url = "http://{}:{}/".format(*peer)
        desk, phone = chromium.open(url), chromium.open(url, 390, 844, phone=True, alone=True)
        for window in (desk, phone):
            window.until("document.title === 'open'")
        desk.type("#say", "from the desk", enter=True)
        phone.until("said.children.length === 1")
        phone.type("#say", "from the phone", enter=True)
        for window in (desk, phone):
            window.until("said.children.length === 2")
            assert window.text("#said").split("\n") == ["from the desk", "from the phone"]
            assert set(window.requests()) == {url, url.replace("http", "ws") + "chat"}
            assert window.too_wide() == 0
        assert (desk.evaluate("innerWidth"), phone.evaluate("innerWidth")) == (1280, 390)
        assert phone.screenshot(tmp_path / "phone.png").stat().st_size > 1000

    def test_complaints(self, peer, chromium):
        window = chromium.open("http://{}:{}/".format(*peer))
        assert window.complaints() == []
        window.evaluate("setTimeout(() => { throw new Error('thrown') }); console.error('said', 1)")
        window.evaluate("fetch('http://elsewhere.example/').catch(() => 0)")
        until(lambda: len(window.complaints()) == 3, "three complaints")
        thrown, said, logged = window.complaints()
        assert thrown.startswith("Error: thrown")
        assert said == "said 1"
        assert "ERR_NAME_NOT_RESOLVED" in logged
        window.forgive()
        assert window.evaluate("Promise.resolve([1, {a: 'ü'}])") == [1, {"a": "ü"}]
        with pytest.raises(Failed, match="ReferenceError"):
            window.evaluate("nothing.there")
        with pytest.raises(Failed, match="ERR_CONNECTION_REFUSED"):
            window.load("http://127.0.0.1:65535/")
        window.forgive()

    def test_it_leaves_nothing_behind(self, chromium):
        browser = Chromium(program())
        browser.start()
        browser.open()
        below = [browser.process.pid, *procs.descendants(browser.process.pid)]
        assert len(below) > 2
        browser.stop()
        assert not any(procs.alive(pid) for pid in below)
        assert not browser.folder.exists()
