"""Engines that cannot run here do not start, and say why and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.server import APPS, run

APP = ("--chdir", str(APPS / "hello"), "--module", "app", "--http-socket", "127.0.0.1:0")


def refused(*options, env=None):
    """The lines of a start that did not happen."""
    ended = run(*APP, *options, env=env)
    text = ended.stdout + ended.stderr
    assert ended.returncode not in (0, None), text
    assert ended.returncode > 0, f"killed by a signal:\n{text}"
    assert "is ready" not in text
    assert "panicked" not in text
    assert "not in this version" not in text
    return text


class TestUGreen:
    @pytest.mark.parametrize("pages", ["1", "23"])
    def test_a_stack_that_is_too_small(self, pages):
        text = refused("--async", "8", "--ugreen", "--ugreen-stacksize", pages)
        assert "ugreen-stacksize" in text
        # The smallest one that works.
        assert "write 24 or more" in text

    @pytest.mark.parametrize("pages", ["x", "0", "-1", "99999999999999999999"])
    def test_a_stack_size_that_is_none(self, pages):
        assert "ugreen-stacksize" in refused(
            "--async", "8", "--ugreen", "--ugreen-stacksize", pages
        )

    def test_the_smallest_stack(self, fresh):
        server = fresh("hello", "--async", "8", "--ugreen", "--ugreen-stacksize", "24")
        assert server.get("/").body == b"hello\n"

    def test_more_stacks_than_the_kernel_has_mappings(self):
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        text = refused("--async", str(limit // 2 + 1), "--ugreen")
        assert "vm.max_map_count" in text
        # As it is, and as it should be.
        assert f"allows a process {limit}" in text
        advice = re.search(r"sysctl -w vm\.max_map_count=(\d+)", text)
        assert advice, text
        assert int(advice[1]) > limit

    def test_without_async(self):
        text = refused("--ugreen")
        assert "ugreen suspend engine requires async mode" in text
        assert "add async = N" in text

    def test_with_greenlet(self):
        text = refused("--async", "8", "--ugreen", "--greenlet")
        assert "ugreen is asked for already" in text
        assert "choose one suspend engine" in text


class TestGreenlet:
    def test_without_async(self):
        text = refused("--greenlet")
        assert "greenlet suspend engine requires async mode" in text
        assert "add async = N" in text

    @pytest.mark.parametrize("options", [(), ("--master=false",), ("--lazy-apps",)])
    def test_not_installed(self, tmp_path, options):
        """Said once, by name, with the command that helps; not a traceback."""
        (tmp_path / "greenlet.py").write_text("raise ImportError('hidden by the test')\n")
        env = {"PYTHONPATH": str(tmp_path)}
        text = refused("--async", "8", "--greenlet", *options, env=env)
        assert "greenlet" in text
        assert "hidden by the test" in text
        assert "pip install greenlet" in text

    @pytest.mark.parametrize("options", [("--async", "8"), ("--async", "8", "--ugreen")])
    def test_others_do_not_need_it(self, tmp_path, fresh, options):
        (tmp_path / "greenlet.py").write_text("raise ImportError('hidden by the test')\n")
        server = fresh("hello", *options, env={"PYTHONPATH": str(tmp_path)})
        assert server.get("/").body == b"hello\n"


# A library that hides a thing of the interpreter from the server, and from nobody else.
HIDES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static int asked_by_server(void *address) {
    Dl_info info;
    return dladdr(address, &info) && strstr(info.dli_fname, "_greenloom") != NULL;
}
#ifdef HIDE_KEY
void *pthread_getspecific(pthread_key_t key) {
    static void *(*real)(pthread_key_t);
    if (!real) real = dlsym(RTLD_NEXT, "pthread_getspecific");
    return asked_by_server(__builtin_return_address(0)) ? NULL : real(key);
}
#else
void *dlsym(void *handle, const char *name) {
    static void *(*real)(void *, const char *);
    if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    if (!real) real = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.17");
    return asked_by_server(__builtin_return_address(0)) ? NULL : real(handle, name);
}
#endif
"""


@pytest.fixture
def hidden(tmp_path):
    """`hidden(what)`: the environment of a server that does not find it."""

    def hide(what):
        source, library = tmp_path / "hides.c", tmp_path / "hides.so"
        source.write_text(HIDES)
        compiler = ["cc", "-shared", "-fPIC", "-O1", f"-DHIDE_{what}", "-o", library, source]
        subprocess.run([*compiler, "-ldl"], check=True)
        return {"LD_PRELOAD": str(library)}

    return hide


class TestWhatUGreenNeedsOfTheInterpreter:
    """Simulated: no CPython that is supported lacks any of it."""

    def test_the_key_of_thread_states_is_not_found(self, hidden, fresh):
        """Before 3.12 it cannot run without; later it is not looked for."""
        env = hidden("KEY")
        if sys.version_info >= (3, 12):
            server = fresh("hello", "--async", "8", "--ugreen", env=env)
            assert server.get("/").body == b"hello\n"
            return
        text = refused("--async", "8", "--ugreen", env=env)
        assert "the key of its thread states was not found" in text
        assert "CPython 3.12 or newer, or --greenlet" in text

    def test_symbols_are_not_found(self, hidden, fresh):
        """From 3.14 on it cannot run without; in 3.13 handlers of signals come late."""
        env = hidden("SYMBOLS")
        if sys.version_info >= (3, 14):
            text = refused("--async", "8", "--ugreen", env=env)
            assert "PyUnstable_ThreadState_SetStackProtection is missing" in text
            assert "upgrade Python, or use --greenlet" in text
            return
        late = r"ugreen: the interpreter's main thread state was not found; handlers .* run only"
        server = fresh("hello", "--async", "8", "--ugreen", env=env, allow=[late])
        assert server.get("/").body == b"hello\n"
        assert server.count_log(late) == (sys.version_info >= (3, 13))
