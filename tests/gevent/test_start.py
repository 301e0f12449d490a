"""What is patched when; what a start needs."""

from __future__ import annotations

import pytest

from tests.harness.server import APPS, run

ALL = ["socket", "ssl", "subprocess", "threading", "time"]
SLEEPS = {True: "gevent.hub", False: "time"}


@pytest.mark.parametrize(
    ("options", "itself", "at_load", "now"),
    [
        ((), None, [], []),
        (("--gevent-monkey-patch",), None, ALL, ALL),
        (("--gevent-early-monkey-patch",), None, ALL, ALL),
        (("--gevent-late-monkey-patch",), None, [], ALL),
        ((), "patch_all", [], ALL),
        ((), "patch_thread", [], ["threading"]),
        (("--lazy-apps", "--gevent-monkey-patch"), None, ALL, ALL),
        (("--lazy-apps", "--gevent-late-monkey-patch"), None, [], ALL),
    ],
)
def test_what_is_patched_when(fresh_gevent, options, itself, at_load, now):
    env = {"PATCH": itself} if itself else {}
    server = fresh_gevent("gevent_patching", *options, env=env)
    found = server.get("/patched").json()
    assert (found["at load"], found["now"]) == (at_load, now)
    assert found["sleep"] == SLEEPS["time" in at_load], "what `from time import sleep` has given"


@pytest.mark.parametrize(
    ("option", "meets"), [("--gevent-monkey-patch", True), ("--gevent-late-monkey-patch", False)]
)
def test_names_that_the_loading_imports_wait_only_if_patched_before(serve_gevent, option, meets):
    """Unpatched, the first request holds up the second one for all of its patience."""
    server = serve_gevent("gevent_patching", option)
    clients = [server.http() for _ in range(2)]
    for client in clients:
        client.send_request(target="/meet?2")
    answers = [client.read_response().json() for client in clients]
    assert answers == (["met", "met"] if meets else ["alone", "met"])


@pytest.mark.parametrize("options", [(), ("--master=false",), ("--lazy-apps",)])
def test_a_missing_gevent_is_named(tmp_path, options):
    (tmp_path / "gevent.py").write_text("raise ImportError('hidden by the test')\n")
    words = f"--http-socket 127.0.0.1:0 --gevent 4 --chdir {APPS / 'hello'} --module app"
    ended = run(*words.split(), *options, env={"PYTHONPATH": str(tmp_path)})
    text = ended.stdout + ended.stderr
    assert ended.returncode != 0, text
    assert text.count("--gevent needs the package gevent in this Python") == 1, text
    assert "hidden by the test" in text
    assert "-m pip install gevent" in text
    assert "Traceback" not in text
