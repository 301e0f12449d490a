"""start_response, write, iterables: what goes right. What goes wrong: test_wsgi_errors.py."""

from __future__ import annotations

import re

import pytest


def test_header_order_and_repetition(serve, modes):
    answer = serve("headers", *modes).get("/repeated")
    assert answer.get_all("set-cookie") == ["a=1", "b=2"]
    own = [name for name, _ in answer.headers if name in ("Set-Cookie", "X-Between")]
    assert own == ["Set-Cookie", "X-Between", "Set-Cookie"]


def test_latin_1_values(serve):
    assert serve("headers").get("/latin").header("x-name") == "caf\xe9"


def test_empty_value(serve):
    assert serve("headers").get("/empty").header("x-empty") == ""


def test_connection_close_of_the_application(serve, modes):
    client = serve("headers", *modes).http()
    assert client.get("/close").header("connection").lower() == "close"
    assert client.closed_by_peer()


def test_many_headers(serve):
    answer = serve("headers").get("/many")
    assert [v for k, v in answer.headers if k.startswith("X-")] == ["v" * 100] * 200
    assert answer.body == b"hello\n"


@pytest.mark.parametrize("count", [0, 1, 5])
def test_write(serve, modes, count):
    client = serve("write_callable", *modes).http()
    for _ in range(2):
        answer = client.get(f"/{count}?size=8")
        assert answer.body == b"".join((b"%d\n" % n).rjust(8, b"w") for n in range(count)) + b"end"


def test_write_in_http_1_0(serve):
    client = serve("write_callable").http()
    answer = client.request(target="/3?size=8", version="HTTP/1.0")
    assert answer.body.endswith(b"end")
    assert len(answer.body) == 27


def test_start_response_inside_the_generator(serve, modes):
    assert serve("errors", *modes).get("/start-in-generator").body == b"ok"


def test_an_empty_iterable(serve, modes):
    client = serve("stream", *modes).http()
    for target in ("/list/0", "/0"):
        answer = client.get(target)
        assert answer.status == 200
        assert answer.body == b""


class TestClose:
    @pytest.mark.parametrize("kind", ["whole", "empty"])
    def test_after_the_end(self, serve, modes, kind):
        server = serve("close_tracker", *modes)
        server.get(f"/{kind}/first")
        server.wait_for_log(r"closed first$")
        server.expect_log(r"closed first$")

    def test_after_an_exception(self, serve, modes):
        server = serve("close_tracker", *modes, allow=["Traceback", "ValueError"])
        client = server.http()
        client.send_request(target="/failing/it")
        client.read_head()
        server.wait_for_log(r"closed it$")
        server.expect_log(r"closed it$")

    def test_head(self, serve, modes):
        server = serve("close_tracker", *modes)
        server.request("HEAD", "/whole/head")
        server.wait_for_log(r"closed head$")

    @pytest.mark.parametrize("ending", ["close", "reset"])
    @pytest.mark.parametrize("kind", ["endless", "cleaned"])
    def test_when_the_client_leaves(self, serve, modes, kind, ending):
        server = serve("close_tracker", *modes, allow=[r"(?i)broken pipe|reset|write error"])
        client = server.http()
        client.send_request(target=f"/{kind}/gone")
        client.read_exactly(100_000)
        getattr(client, ending)()
        server.wait_for_log(r"closed gone$")
        server.expect_log(r"closed gone$")

    @pytest.mark.parametrize("kind", ["endless", "cleaned"])
    def test_head_of_an_endless_iterable(self, serve, modes, kind):
        """Nothing may wait for the end of what nobody will get."""
        server = serve("close_tracker", *modes)
        with server.http() as client:
            assert client.request("HEAD", f"/{kind}/unread").status == 200
            # The client is still there, so this is not the end of a request that lost its client.
            server.wait_for_log(r"closed unread$")
            assert client.get("/whole/next").body == b"ab"
        (head, _) = server.wait_requests(2)
        assert (head.method, head.status, head.switches) == ("HEAD", 200, 1)

    @pytest.mark.parametrize("kind", ["endless", "cleaned"])
    @pytest.mark.parametrize("length", [10, 65536, 200_000])
    def test_more_than_announced(self, serve, modes, kind, length):
        """What is too much is cut off, said once, and not asked for any further."""
        server = serve("close_tracker", *modes)
        with server.http() as client:
            assert client.get(f"/{kind}/over?{length}").body == b"x" * length
            server.wait_for_log(r"closed over$")
            assert client.get("/whole/next").body == b"ab"
        server.expect_log("sends more bytes than its Content-Length announces")


class TestFileWrapper:
    @pytest.fixture
    def found(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"".join(b"%07d\n" % n for n in range(200_000)))
        return path

    @pytest.mark.parametrize("how", ["whole", "no-size", "length", "iterated"])
    def test_whole(self, serve, modes, found, how):
        client = serve("file_wrapper", *modes).http()
        for _ in range(2):
            assert client.get(f"/{how}?{found}").body == found.read_bytes()

    def test_position_is_honoured(self, serve, modes, found):
        answer = serve("file_wrapper", *modes).get(f"/offset?{found}")
        assert answer.body == found.read_bytes()[1000:]

    def test_no_descriptor(self, serve, modes, found):
        server = serve("file_wrapper", *modes)
        assert server.get("/bytes?").body == b"0123456789" * 1000
        server.wait_for_log("bytes closed$")

    def test_empty(self, serve, modes, tmp_path):
        path = tmp_path / "empty"
        path.write_bytes(b"")
        assert serve("file_wrapper", *modes).get(f"/whole?{path}").body == b""

    def test_head(self, serve, modes, found):
        client = serve("file_wrapper", *modes).http()
        assert client.request("HEAD", f"/length?{found}").header("content-length") == "1600000"
        assert client.get(f"/length?{found}").body == found.read_bytes()

    def test_without_read(self, serve, modes, found):
        server = serve("file_wrapper", *modes, allow=["Traceback", "AttributeError|TypeError"])
        assert server.get("/no-read?").status == 500

    def test_large_to_a_slow_reader(self, serve, tmp_path):
        """A file larger than all buffers, and a neighbour that is served meanwhile."""
        path = tmp_path / "large"
        path.write_bytes(bytes(30_000_000))
        server = serve("file_wrapper", "--async", "2")
        slow = server.http(receive_buffer=4096)
        slow.send_request(target=f"/whole?{path}")
        head = slow.read_head()
        for _ in range(3):
            assert server.get("/bytes?").status == 200
        assert len(slow.read_body(head).body) == 30_000_000


class TestValidated:
    @pytest.mark.parametrize("path", ["listed", "generated", "written"])
    def test_bodies(self, serve, modes, path):
        server = serve("validated", *modes)
        assert server.get(f"/{path}").body == b"valid"

    def test_input_and_errors(self, serve, modes):
        server = serve("validated", *modes)
        headers = [("Content-Type", "text/plain")]
        assert server.request("POST", "/body", headers, b"12345").body == b"12345"
        server.wait_for_log("^validated body$")

    def test_nothing(self, serve, modes):
        assert serve("validated", *modes).get("/nothing").status == 204


class TestMounts:
    def one(self, serve, *options, **how):
        return serve(None, "--chdir", "tests/apps/mounts", *options, **how)

    def test_longest_prefix_at_a_boundary(self, serve, modes):
        server = self.one(
            serve, "--mount", "/a=one.py", "--mount", "/a/b=two.py", "-w", "one:named", *modes
        )
        expected = {
            "/a": "one|/a|",
            "/a/": "one|/a|/",
            "/a/c": "one|/a|/c",
            "/a/b": "two|/a/b|",
            "/a/b/c": "two|/a/b|/c",
            "/a/bc": "one|/a|/bc",
            "/ab": "named||/ab",
            "/": "named||/",
        }
        found = {path: server.get(path).body.decode() for path in expected}
        assert found == expected

    def test_module_and_callable(self, serve):
        server = self.one(serve, "--mount", "/n=one:named", "--mount", "/t=two")
        assert server.get("/n/x").body == b"named|/n|/x"
        assert server.get("/t/x").body == b"two|/t|/x"

    def test_same_file_name_in_two_folders(self, serve):
        server = serve(
            None,
            "--mount",
            "/h=tests/apps/hello/app.py",
            "--mount",
            "/s=tests/apps/stream/app.py",
        )
        assert server.get("/h").body == b"hello\n"
        assert server.get("/s/1").body.endswith(b"0\n")

    def test_the_first_app_serves_what_no_mount_point_covers(self, serve, modes):
        # Without the harness's own mount: it would be the first one.
        mounts = ("--mount", "/a=one.py", "--mount", "/b=two.py")
        server = self.one(serve, *mounts, *modes, probe=False)
        assert server.get("/b/x").body == b"two|/b|/x"
        assert server.get("/other").body == b"one||/other"
        assert server.get("/bc").body == b"one||/bc"


class TestLoading:
    def test_wsgi_file(self, serve):
        assert serve(None, "--wsgi-file", "tests/apps/hello/app.py").get("/").body == b"hello\n"

    def test_positional_file(self, serve):
        assert serve(None, "tests/apps/hello/app.py").get("/").body == b"hello\n"

    def test_callable_option(self, serve):
        server = serve(None, "--wsgi-file", "tests/apps/mounts/one.py", "--callable", "named")
        assert server.get("/x").body == b"named||/x"

    def test_factory(self, serve):
        server = serve(None, "--pythonpath", "tests/apps/mounts", "-w", "one:factory()")
        assert server.get("/x").body == b"made||/x"

    def test_dotted_module(self, serve, tmp_path):
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").write_text("")
        source = "def app(e, s):\n    s('200 OK', [])\n    return [__name__.encode()]\n"
        (tmp_path / "package" / "inner.py").write_text(source)
        server = serve(None, "--chdir", str(tmp_path), "--module", "package.inner:app")
        assert server.get("/").body == b"package.inner"

    def test_chdir_and_env(self, serve):
        server = serve("processes", "--env", "FROM_OPTION=x y=z")
        found = server.get("/").json()
        assert found["cwd"].endswith("tests/apps/processes")
        assert found["variable"] == "x y=z"

    def test_loaded_once_before_the_workers(self, serve):
        server = serve("processes", "--processes", "2")
        found = server.get("/").json()
        assert found["loaded_in"] != found["pid"]

    def test_lazy_apps(self, serve):
        found = serve("processes", "--lazy-apps", "--processes", "2").get("/").json()
        assert found["loaded_in"] == found["pid"]


def test_kept_objects_are_dead_after_the_request(serve, modes):
    client = serve("keeper", *modes).http()
    assert client.get("/keep").body == b"kept"
    answer = client.get("/use")
    assert answer.status == 200
    assert answer.header("x-evil") is None
    found = answer.json()
    assert found["start_response"] != "accepted"
    assert found["write"] != "accepted"
    assert found["same environ"] is False
    assert found["environ unchanged"] is True


def test_the_reason_is_kept(serve):
    server = serve("errors")
    assert server.get("/info-before").reason == "Later"
    assert re.fullmatch("HTTP/1.1 200 OK", server.get("/").raw_head.split(b"\r\n")[0].decode())
