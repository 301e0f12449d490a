"""Request lines in other forms, and which requests have one."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.harness import request_log
from tests.harness.server import ROOT, run
from tests.harness.uwsgi import packet, variables
from tests.harness.waiting import until

COMBINED = (
    '%(addr) - %(user) [%(ltime)] "%(method) %(uri) %(proto)" %(status) %(size) '
    '"%(referer)" "%(uagent)"'
)
COMBINED_LINE = re.compile(
    r"(?P<addr>[^ ]*) - (?P<user>[^ ]*) \[(?P<date>[^]]*)\] "
    r'"(?P<method>[^ ]*) (?P<uri>[^ ]*) (?P<proto>[^"]*)" (?P<status>\d+) (?P<size>\d+) '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)"'
)
NAMES = """
    uri method user addr host proto uagent referer status rsize hsize size cl micros msecs secs
    tmicros tmsecs time epoch ctime ltime ftime pid wid core switches vars pktsize modifier1
    modifier2 headers rss vsz rssM vszM werr rerr ioerr var.QUERY_STRING var.REQUEST_METHOD
    var.HTTP_X_TEST var.SERVER_PORT var.NONE metric.requests unknown
"""
ESCAPE = re.compile(r"\\x([0-9A-F]{2})")


def unescape(text: str) -> bytes:
    """The bytes that a text of a line stands for."""
    parts = ESCAPE.split(text)
    plain, codes = parts[::2], parts[1::2]
    out = plain[0].encode()
    for code, part in zip(codes, plain[1:], strict=True):
        out += bytes([int(code, 16)]) + part.encode()
    return out


def lines(server, count):
    """The first `count` lines after the start, all of which have to be lines of requests."""
    return server.wait_for_lines(count)[:count]


class TestFormat:
    def test_every_variable_of_uwsgi(self, fresh):
        names = NAMES.split()
        template = "\t".join(f"{name}=%({name})" for name in names)
        server = fresh("logs", "--async", "2", "--log-format", template)
        before = time.time()
        answer = server.request(
            "POST",
            "/plain?q=1",
            [("User-Agent", "ua"), ("Referer", "rf"), ("X-Test", "a"), ("X-Test", "b")],
            b"body",
        )
        after = time.time()
        (line,) = lines(server, 1)
        found = dict(item.split("=", 1) for item in line.split("\t"))
        head = len(answer.raw_head) + 4
        port = server.http_address[1]
        expected = {
            "uri": "/plain?q=1",
            "method": "POST",
            "user": "-",
            "addr": "127.0.0.1",
            "host": "example.org",
            "proto": "HTTP/1.1",
            "uagent": "ua",
            "referer": "rf",
            "status": "200",
            "rsize": "6",
            "hsize": str(head),
            "size": str(head + 6),
            "cl": "4",
            "pid": str(server.worker()),
            "wid": "1",
            "modifier1": "0",
            "modifier2": "0",
            "headers": str(len(answer.headers)),
            "rss": "0",
            "vsz": "0",
            "rssM": "0",
            "vszM": "0",
            "werr": "0",
            "rerr": "0",
            "ioerr": "0",
            "var.QUERY_STRING": "q=1",
            "var.REQUEST_METHOD": "POST",
            "var.HTTP_X_TEST": "a, b",
            "var.SERVER_PORT": str(port),
            "var.NONE": "-",
            "metric.requests": "-",
            "unknown": "-",
        }
        assert {name: found[name] for name in expected} == expected
        assert found["core"] in ("0", "1")
        assert int(found["switches"]) >= 1
        assert int(found["vars"]) % 2 == 0
        assert int(found["pktsize"]) > 50
        # One moment and one duration, in several units.
        micros = int(found["tmicros"])
        assert before - 0.1 <= micros / 1e6 <= after
        assert int(found["tmsecs"]) == micros // 1000
        assert int(found["time"]) == micros // 1_000_000
        assert int(found["epoch"]) >= int(found["time"])
        assert time.mktime(time.strptime(found["ctime"])) == int(found["time"])
        date = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(int(found["time"])))
        assert found["ltime"] == found["ftime"] == date
        assert int(found["msecs"]) == int(found["micros"]) // 1000
        assert found["secs"] == f"{int(found['micros']) / 1e6:.6f}"
        assert 0 < int(found["micros"]) < 60_000_000

    def test_variables_of_the_application(self, serve):
        server = serve("logs", "--async", "2", "--log-format", "[%(user_id)] [%(b)] %(uri)")
        server.get("/x?logvar.user_id=42")
        server.get("/read?logvar.a=1&logvar.b=%0a%5d%ff")
        # Nothing of one request is left for the next one.
        server.get("/read")
        assert lines(server, 3) == [
            "[42] [-] /x?logvar.user_id=42",
            "[-] [\\x0A\\x5D\\xFF] /read?logvar.a=1&logvar.b=%0a%5d%ff",
            "[-] [-] /read",
        ]

    def test_what_greenloom_adds(self, serve):
        template = (
            "%(requests) %(app) %(app_requests) %(ended) %(request_id) "
            "%(wait_micros) %(run_micros) %(micros)"
        )
        server = serve("logs", "--async", "2", "--log-format", template, allow=["^Traceback"])
        server.get("/x", X_Request_Id="id-1")
        server.get("/fail")
        first, second = lines(server, 2)[0], server.wait_for_log(r"^.* failed .*$")[0]
        *_, app, _, ended, identity, wait, running, micros = first.split()
        assert (app, ended, identity) == ("0", "complete", "id-1")
        assert int(wait) + int(running) == int(micros)
        assert second.split()[3:5] == ["failed", "-"]

    def test_text_through_strftime(self, fresh):
        server = fresh("logs", "--log-format", "%Y %%d %(uri)", "--log-format-strftime")
        server.get("/x")
        assert re.fullmatch(r"\d{4} %d /x", lines(server, 1)[0])

    def test_a_long_target_is_cut(self, serve):
        server = serve("logs", "--log-format", COMBINED, "--buffer-size", "32768")
        server.get("/" + "a" * 20_000, User_Agent="b" * 1000)
        (line,) = lines(server, 1)
        found = COMBINED_LINE.fullmatch(line)
        assert found["uri"].endswith("a\\...")
        assert len(line) < 4096

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("%(uri", "the item at byte 0 has no end: %(uri; close it with )"),
            ("%(addr) %()", "the item at byte 8 names nothing"),
            ("%(uri)" * 200, "200 items"),
        ],
    )
    def test_what_is_no_template_is_refused(self, template, message):
        ended = run("--http-socket", "127.0.0.1:0", "--no-need-app", "--log-format", template)
        assert ended.returncode == 1
        assert message in ended.stderr
        assert "log-format" in ended.stderr


class TestJson:
    def test_keys_are_those_of_the_manual(self, fresh):
        server = fresh("logs", "--async", "2", "--log-json", "--memory-report")
        server.get("/x?logvar.user_id=42")
        (line,) = lines(server, 1)
        found = json.loads(line)
        manual = (ROOT / "docs" / "logging.md").read_text()
        rows = manual.partition("<!-- json keys -->")[2].partition("<!-- end -->")[0]
        documented = [
            key
            for row in rows.splitlines()
            if row.startswith("| `")
            for key in re.findall(r"`(\w+)`", row.split("|")[1])
        ]
        assert [key for key in documented if key != "logvars_left_out"] == list(found)
        assert found["logvars"] == {"user_id": "42"}
        assert (found["method"], found["uri"]) == ("GET", "/x?logvar.user_id=42")
        assert (found["status"], found["rsize"], found["ended"]) == (200, 6, "complete")
        assert (found["pid"], found["wid"], found["user"]) == (server.worker(), 1, "")
        assert found["wait_micros"] + found["run_micros"] == found["micros"]
        assert found["rss"] > 1 << 20

    def test_a_deadline(self, serve, gate):
        options = ["--async", "4", "--log-json", "--request-timeout", "/hold=0.2"]
        server = serve("hold", *options, env=gate.env)
        client = server.http()
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_to_end()
        found = json.loads(lines(server, 1)[0])
        assert (found["uri"], found["ended"], found["status"]) == ("/hold", "deadline", 200)
        assert found["run_micros"] >= 100_000

    def test_a_client_that_leaves(self, serve, gate):
        server = serve("hold", "--async", "4", "--log-json", env=gate.env)
        client = server.http()
        client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_until(b"held")
        client.reset()
        found = json.loads(lines(server, 1)[0])
        assert (found["uri"], found["ended"]) == ("/hold", "client-gone")


HOSTILE = [
    b"\n",
    b"\r\n",
    b"\x00",
    b"\x1b[2J",
    b'"',
    b'", "status": 200, "x": "',
    b"\\",
    b"\\x41",
    b"\xff\xfe",
    b"\xc3",
    "é€😀".encode(),
    b"\xe2\x80\xa8",
    b"] => generated ",
    b" ",
    b"' - - [",
    b"\x7f\x85",
]


class TestHostileClients:
    """Every line can be read back, whatever stands in a packet."""

    NAMES = ("REQUEST_URI", "REQUEST_METHOD", "REMOTE_ADDR", "REMOTE_USER", "HTTP_USER_AGENT")

    def ask(self, server, texts):
        pairs = [(k, v) for k, v in variables() if k not in texts]
        pairs += [(k, v.decode("latin-1")) for k, v in texts.items()]
        client = server.packets()
        client.send(packet(pairs))
        client.read_to_end()

    @pytest.mark.parametrize("piece", HOSTILE)
    def test_json(self, serve, piece):
        server = serve("logs", "--log-json", uwsgi="127.0.0.1:0")
        texts = dict.fromkeys(self.NAMES, b"x" + piece + b"y")
        self.ask(server, texts)
        (line,) = lines(server, 1)
        assert re.fullmatch(r"[\x20-\x7e]*", line)
        found = json.loads(line)
        keys = ("uri", "method", "addr", "user", "uagent")
        assert [unescape(found[key]) for key in keys] == [texts[name] for name in self.NAMES]

    @pytest.mark.parametrize("piece", HOSTILE)
    def test_template(self, serve, piece):
        server = serve("logs", "--log-format", COMBINED, uwsgi="127.0.0.1:0")
        texts = dict.fromkeys(self.NAMES, b"x" + piece + b"y")
        self.ask(server, texts)
        (line,) = lines(server, 1)
        found = COMBINED_LINE.fullmatch(line)
        keys = ("uri", "method", "addr", "user", "agent")
        assert [unescape(found[key]) for key in keys] == [texts[name] for name in self.NAMES]


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "logged"),
        [
            ([], {"/forced"}),
            (["--log-zero"], {"/forced", "/zero?size=0"}),
            (["--log-slow", "1000"], {"/forced", "/slow?seconds=1.02"}),
            (["--log-4xx"], {"/forced", "/?status=404+No"}),
            (["--log-5xx"], {"/forced", "/?status=503+No"}),
            (["--log-big", "1000"], {"/forced", "/?size=1000"}),
            (["--log-sendfile"], {"/forced", "/wrapper", "/sendfile"}),
            (["--log-4xx", "--log-5xx"], {"/forced", "/?status=404+No", "/?status=503+No"}),
        ],
        ids=" ".join,
    )
    def test_only_these_have_a_line(self, serve, condition, logged):
        server = serve("logs", "--async", "2", "--disable-logging", *condition)
        targets = [
            "/plain",
            "/zero?size=0",
            "/?status=404+No",
            "/?status=503+No",
            "/?size=999",
            "/?size=1000",
            "/wrapper",
            "/sendfile",
        ]
        if "--log-slow" in condition:
            targets.append("/slow?seconds=1.02")
        # The last one: its line is behind all others.
        targets.append("/forced")
        for target in targets:
            server.get(target)
        server.wait_for_log(r" GET /forced => ")
        assert {line.uri for line in server.log_requests()} == logged

    def test_a_connection_that_fails(self, serve):
        server = serve("stream", "--async", "2", "--disable-logging", "--log-ioerror")
        server.get("/10")
        client = server.http()
        client.send(b"GET /100000?size=1000 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_head()
        client.reset()
        (line,) = server.wait_requests(1)
        assert line.uri == "/100000?size=1000"


class TestDefaultLine:
    def test_microseconds(self, fresh):
        server = fresh("logs", "--log-micros")
        server.get("/slow?seconds=0.12")
        (line,) = lines(server, 1)
        micros = re.search(r" => generated 6 bytes in (\d+) micros \(HTTP/1\.1 200\) ", line)
        assert int(micros[1]) >= 120_000
        assert request_log.parse(line.replace(" micros ", " msecs ")) is not None

    def test_forwarded_addresses(self, serve):
        server = serve("logs", "--log-x-forwarded-for")
        server.get("/x", X_Forwarded_For="6.6.6.6, 7.7.7.7")
        server.get("/x")
        assert [line.address for line in server.wait_requests(2)] == [
            "6.6.6.6, 7.7.7.7",
            "127.0.0.1",
        ]

    def test_memory(self, fresh):
        server = fresh("logs", "--memory-report")
        server.get("/x")
        (line,) = lines(server, 1)
        memory = re.match(
            r"\{address space usage: (\d+) bytes/(\d+)MB\} \{rss usage: (\d+) bytes/(\d+)MB\} (.*)",
            line,
        )
        space, space_mb, rss, rss_mb = map(int, memory.groups()[:4])
        assert space > rss > 1 << 20
        assert (space >> 20, rss >> 20) == (space_mb, rss_mb)
        assert request_log.parse(memory[5]) is not None

    def test_log_this_request_with_logging_on_is_one_line(self, serve):
        server = serve("logs")
        server.get("/forced")
        server.get("/last")
        until(lambda: len(server.log_requests()) >= 2, "two lines")
        assert [line.uri for line in server.log_requests()] == ["/forced", "/last"]
