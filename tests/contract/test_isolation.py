"""Requests that overlap see nothing of each other, and none sees what an earlier one has left."""

from __future__ import annotations

import re

import pytest

from tests.contract.overlap import all_at_once, check_switches, one

DEFAULT_PRECISION = 28


@pytest.fixture
def server(suspending, serve_engine):
    return serve_engine("contract_isolation")


def results(server, path, count=8):
    answers = all_at_once(server, path, count)
    check_switches(server, answers)
    return [answer["result"] for answer in answers]


@pytest.mark.nasty
class TestExceptions:
    def test_exc_info(self, server):
        for n, found in enumerate(results(server, "/exc_info")):
            value, key, lookup = ["ValueError", n], ["KeyError", n], ["LookupError", n]
            assert found == [None, value, key, value, [value, lookup, value], None]

    def test_bare_raise(self, server):
        for n, found in enumerate(results(server, "/bare_raise")):
            assert found[:-1] == [["ValueError", n, k] for k in range(3 + n)]
            assert found[-1] == ["RuntimeError", "No active exception to reraise"]

    def test_contexts(self, server):
        for n, found in enumerate(results(server, "/contexts_of_exceptions")):
            assert found == [None] + [[["ValueError", n], None], None] * 3

    def test_the_log_shows_each_ones_own(self, suspending, fresh_engine):
        server = fresh_engine("contract_isolation", allow=["Traceback", "Error", "exception in"])
        clients = [server.http() for _ in range(8)]
        for n, client in enumerate(clients):
            client.send_request(target=f"/failing?n={n}&of=8")
        assert [client.read_response().status for client in clients] == [500] * 8
        server.wait_requests(8)
        text = server.log_text()
        for n in range(8):
            assert text.count(f"LookupError: ('left', {n})") == 1
        # What was handled before is over, whoever did it, so no traceback tells of it.
        assert "'handled'" not in text
        assert "During handling" not in text
        assert text.count("Traceback") == 8
        names = set(re.findall(r"^  File .*, in (\w+)$", text, re.MULTILINE))
        assert names == {"application", "failing"}


@pytest.mark.nasty
class TestContexts:
    def test_variables(self, server):
        for n, found in enumerate(results(server, "/context_variable")):
            own = [f"of {n}"] * (1 + n % 4)
            assert found == ["default", *own, f"within {n}", f"of {n}", "default"]

    def test_variables_of_the_second_round(self, server):
        for _ in range(3):
            found = results(server, "/context_variable", 4)
            assert [each[0] for each in found] == ["default"] * 4
            server.begin()

    def test_decimal(self, server):
        seventh = "0.14285714285714285714"
        for n, found in enumerate(results(server, "/decimal_context")):
            expected = [rounded(seventh, 5 + n)] * (1 + n % 4)
            expected += [rounded(seventh, 2 + n), rounded(seventh, 5 + n)]
            assert found == [DEFAULT_PRECISION, *expected]

    def test_thread_locals(self, server, suspending):
        """All cores are one thread. With uGreen each has its own `threading.local` all the same.

        With greenlet, as in uWSGI, all share them: the last one who writes is read by everybody.
        """
        found = results(server, "/thread_local")
        if suspending.name == "ugreen":
            assert [each["found"] for each in found] == list(range(8))
        else:
            assert {each["found"] for each in found} == {found[-1]["found"]}
        assert {each["main"] for each in found} == {"MainThread"}


def rounded(digits, precision):
    import decimal

    return str(decimal.Context(prec=precision).create_decimal(digits))


class TestTheNextRequest:
    """On the one core there is."""

    @pytest.fixture
    def server(self, suspending, serve_engine):
        return serve_engine("contract_isolation", cores=1)

    CLEAN = {  # noqa: RUF012
        "variable": "default",
        "prec": DEFAULT_PRECISION,
        "handled": None,
        "context": None,
        "trace": False,
    }

    def look(self, server):
        found = one(server, "/look")["result"]
        left = found.pop("left")
        assert found == self.CLEAN
        return left

    def test_sees_no_context_of_the_last(self, server):
        self.look(server)
        for _ in range(3):
            one(server, "/leave_things")
            # As in any pool of threads, `threading.local` stays.
            assert self.look(server) == "left behind"

    def test_sees_no_exception_of_the_last(self, server):
        one(server, "/leave_an_exception")
        self.look(server)

    def test_sees_no_failure_of_the_last(self, suspending, fresh_engine):
        server = fresh_engine(
            "contract_isolation", cores=1, allow=["Traceback", "Error", "exception in"]
        )
        for _ in range(3):
            assert server.get("/failing?n=0&of=1").status == 500
            self.look(server)


class TestFrames:
    def test_the_first_frame_is_the_applications(self, server):
        for n, (found, stack) in enumerate(results(server, "/frames")):
            assert found == (
                [["app.py", "deeper"]] * (n + 1)
                + [["app.py", "frames"], ["contract_support.py", "application"]]
            )
            assert stack == ["application", "frames"] + ["deeper"] * (n + 1)

    def test_tracebacks(self, server):
        for n, found in enumerate(results(server, "/traces")):
            assert found == [["app.py", "traces"]] + [["app.py", "deeper"]] * (n + 1)

    @pytest.mark.engines("ugreen")
    def test_faulthandler_shows_all(self, server):
        """Suspended ones, too: each is a thread to the interpreter."""
        names = [f"recognised_{n}" for n in range(4)]
        for n, text in enumerate(results(server, "/dump", 4)):
            assert [name for name in names if f"in {name}\n" in text] == names, text
            running = text[text.index("Current thread") :].split("\n\n")[0]
            assert f"in {names[n]}\n" in running, text

    def test_a_trace_function(self, server, suspending):
        """With uGreen it stays in the core that has set it.

        greenlet leaves it with the thread, so there it is everybody's while requests overlap.
        """
        answers = all_at_once(server, "/settrace", 4)
        check_switches(server, answers)
        found = [answer["result"] for answer in answers]
        assert 0 in found[0]["seen"]
        assert found[0]["tracing"]
        if suspending.name == "ugreen":
            assert found[0]["seen"] == [0]
            assert [each["tracing"] for each in found[1:]] == [False] * 3
        assert one(server, "/look")["result"]["trace"] is False


@pytest.mark.nasty
def test_the_collector_sees_suspended_frames(server):
    for _ in range(3):
        assert results(server, "/cycles") == [31 + n for n in range(8)]
        server.begin()


@pytest.mark.nasty
@pytest.mark.engines("none", "ugreen", "greenlet", "gevent")
class TestEventLoops:
    """asyncio.run() in a request blocks the worker, but while its task is suspended others run.

    Where such a loop runs already, Python refuses another one.
    """

    def test_in_all_cores_at_once(self, server, suspending):
        answers = all_at_once(server, "/event_loop")
        found = [answer["result"] for answer in answers]
        assert [each["left"] for each in found] == [False] * 8
        if suspending.name == "ugreen":
            assert [each["result"] for each in found] == [2 * n for n in range(8)]
            check_switches(server, answers)
        else:
            # One running loop for each thread: whoever comes while another one runs is refused.
            done = [n for n, each in enumerate(found) if each["result"] == 2 * n]
            refused = [each["result"] for each in found if isinstance(each["result"], str)]
            assert len(done) + len(refused) == 8
            assert all("running event loop" in text for text in refused)

    def test_one_after_another(self, server):
        for n in range(3):
            answer = one(server, "/event_loop")
            assert answer["result"] == {"result": 0, "left": False}, n
