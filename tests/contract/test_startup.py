"""Engines that cannot run here do not start, and say why and what to do."""

from __future__ import annotations

import re
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
        assert re.search(r"96 KiB|24 pages|\b24\b", text), text

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
        assert str(limit) in text
        assert any(int(found) > limit for found in re.findall(r"\d+", text)), text

    def test_without_async(self):
        text = refused("--ugreen")
        assert "ugreen suspend engine requires async mode" in text
        assert "add async = N" in text

    def test_with_greenlet(self):
        text = refused("--async", "8", "--ugreen", "--greenlet")
        assert "ugreen" in text
        assert "greenlet" in text


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
