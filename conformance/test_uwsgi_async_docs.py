"""What uWSGI's manual promises of its async mode, sentence by sentence, without suspend engine."""

from __future__ import annotations

import pytest

from tests.harness.uwsgi import packet, variables


def hold(server, client):
    client.send_request(target="/hold")
    client.head = client.read_head()
    assert client.read_chunk() == b"held\n"
    return client


class TestAsyncSwitches:
    def test_every_yield_increments_the_counter(self, serve):
        server = serve("stream", "--async", "10")
        for count in (0, 1, 10, 999):
            server.get(f"/{count}")
        for line, count in zip(server.wait_requests(4), (0, 1, 10, 999), strict=True):
            assert count <= line.switches <= count + 2

    def test_the_counter_is_reported_at_the_end_of_every_request(self, serve):
        server = serve("stream", "--async", "10")
        for _ in range(5):
            server.get("/3")
        assert len({line.switches for line in server.wait_requests(5)}) == 1


class TestRunning:
    def test_each_core_manages_a_request(self, serve, gate):
        """`--async 10`: ten concurrent requests with one process."""
        server = serve("hold", "--async", "10", env=gate.env)
        clients = [hold(server, server.http()) for _ in range(10)]
        gate.release(10)
        assert all(c.read_body(c.head).body == b"released\n" for c in clients)
        lines = server.wait_requests(10)
        assert {line.core for line in lines} == set(range(10))
        assert len({line.pid for line in lines}) == 1

    def test_each_process_has_its_own_cores(self, serve, gate):
        server = serve(
            "hold", "--async", "2", "--processes", "2", env=gate.env, allow=["queue is full"]
        )
        first = [hold(server, server.http()) for _ in range(2)]
        gate.release(2)
        for client in first:
            assert client.read_body(client.head).body == b"released\n"

    def test_a_yield_lets_a_new_request_take_over(self, serve):
        server = serve("stream", "--async", "10", uwsgi="127.0.0.1:0")
        long = server.packets()
        long.send(packet(variables(path="/100000", query="size=100")))
        long.read_until(b"\n")
        server.get("/short/1")
        assert server.wait_requests(1)[0].uri == "/short/1"
        assert long.read_to_end().endswith(b"99999\n")

    def test_without_async_a_long_request_blocks(self, serve):
        """The counterpart: one core, so the short request comes second."""
        server = serve("stream")
        long, short = server.http(), server.http()
        long.send_request(target="/3000?size=10")
        head = long.read_head()
        short.send_request(target="/short/1")
        assert long.read_body(head).body.count(b"\n") == 3000
        assert short.read_response().status == 200
        assert [r.uri for r in server.wait_requests(2)] == ["/3000?size=10", "/short/1"]


class TestWaitingForIo:
    @pytest.fixture
    def server(self, serve):
        return serve("waits", "--async", "4")

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_wait_fd_read_and_fdevent_readable(self, server, how):
        client = server.http()
        client.send_request(target=f"/read?name=a{how}")
        head = client.read_head()
        assert client.read_chunk() == b"waiting\n"
        server.get("/poke?name=a")
        assert client.read_body(head).body.endswith(b"ready True")

    @pytest.mark.parametrize("how", ["", "&fdevent=1"])
    def test_wait_fd_write_and_fdevent_writable(self, server, how):
        client = server.http()
        client.send_request(target=f"/write?name=a{how}")
        head = client.read_head()
        assert client.read_chunk() == b"waiting\n"
        server.get("/drain?name=a")
        assert client.read_body(head).body == b"near"

    def test_fdevent_timeout(self, server):
        assert server.get("/read?name=a&timeout=0.01&fdevent=1").body.endswith(b"timeout True")

    def test_called_in_succession_for_several_descriptors(self, server):
        """`env['uwsgi.ready_fd']` names the one that is ready."""
        client = server.http()
        client.send_request(target="/several?name=fd0,fd1,fd2")
        head = client.read_head()
        assert client.read_chunk() == b"waiting\n"
        server.get("/poke?name=fd1")
        assert client.read_body(head).body == b"fd1"


class TestSleeping:
    def test_async_sleep_gives_control_to_others(self, serve):
        server = serve("waits", "--async", "2")
        client = server.http()
        client.send_request(target="/sleep?seconds=0.3&times=3")
        head = client.read_head()
        assert client.read_chunk() == b"waiting\n"
        for _ in range(3):
            assert server.get("/results").status == 200
        assert client.read_body(head).body == b"slept"
        assert [r.uri.partition("?")[0] for r in server.wait_requests(4)][-1] == "/sleep"


class TestSuspend:
    def test_without_engine_it_says_which_engines_there_are(self, serve):
        text = serve("waits", "--async", "2").get("/suspend").body.decode().lower()
        assert "ugreen" in text
        assert "greenlet" in text


class TestWarnings:
    def test_running_without_a_suspend_engine_warns(self, fresh):
        server = fresh("hello", "--async", "2")
        server.wait_for_log(r"\*\*\* DANGER \*\*\* async mode without coroutine")


class TestPost:
    def test_post_data_is_read_in_async_mode(self, serve):
        """The manual says this is unsupported; here it is not."""
        server = serve("echo", "--async", "2")
        slow = server.http()
        slow.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf.")
        assert server.get("/").status == 200
        slow.send(b"half.")
        assert slow.read_response().json()["length"] == 10
