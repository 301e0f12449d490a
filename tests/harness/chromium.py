"""Chromium without a screen: windows that run pages, in a folder of its own, gone after the tests.

It is driven over a pair of pipes (the DevTools protocol): no port, no driver, no package.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.harness import procs
from tests.harness.waiting import DEADLINE_S, until

ANSWER_DEADLINE_S = 30.0
STOP_DEADLINE_S = 20.0
POLL_S = 0.02

OPTIONS = [
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--password-store=basic",
    # A page that asks another machine for something finds nothing.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


def program() -> str | None:
    """Debian's chromium-headless-shell is the smallest that does."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Failed(AssertionError):
    """The page threw, or the browser refused a command."""


class Window:
    """One window with a page."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self.browser = browser
        self.target = target
        self.session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Any command of the DevTools protocol."""
        return self.browser.call(method, self.session, **parameters)

    def load(self, url: str, deadline_s: float = DEADLINE_S) -> None:
        """Returns once the page and what it needs are loaded."""
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise Failed(f"{url}: {answer['errorText']}")
        # The answer comes when the new document is there.
        self.until("document.readyState === 'complete'", f"{url} is loaded", deadline_s)

    def evaluate(self, script: str) -> Any:
        """The value of an expression, which may be a promise; what it throws is raised."""
        answer = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise Failed(f"{script}: {described(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def until(self, script: str, what: str = "", deadline_s: float = DEADLINE_S) -> Any:
        """Asks until the value of the expression is true, and returns it."""
        end = time.monotonic() + deadline_s
        while True:
            value = self.evaluate(script)
            if value:
                return value
            if time.monotonic() > end:
                text = self.evaluate("document.body && document.body.innerText")
                raise AssertionError(
                    f"not within {deadline_s} s: {what or script}; the page: {text!r}, "
                    f"its complaints: {self.complaints()}"
                )
            time.sleep(POLL_S)

    def text(self, selector: str = "body") -> str:
        """What a person reads there."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def type(self, selector: str, text: str, enter: bool = False) -> None:
        """Into a field, as from a keyboard."""
        found = self.evaluate(f"(e => e && (e.focus(), 1))(document.querySelector({selector!r}))")
        assert found, f"no {selector}"
        self.call("Input.insertText", text=text)
        if enter:
            self.press("Enter", "\r", 13)

    def press(self, key: str, text: str, code: int) -> None:
        how = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **how)
        self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def click(self, selector: str) -> None:
        found = self.evaluate(f"(e => e && (e.click(), 1))(document.querySelector({selector!r}))")
        assert found, f"no {selector}"

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def too_wide(self) -> int:
        """By how many pixels the page is wider than the window."""
        page = "document.documentElement.scrollWidth"
        return max(0, self.evaluate(f"{page} - document.documentElement.clientWidth"))

    def screenshot(self, path: Path) -> Path:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def events(self, method: str) -> list[dict[str, Any]]:
        """What the browser reported of this kind so far."""
        self.browser.read_waiting()
        return self.browser.seen[self.session, method]

    def requests(self) -> list[str]:
        """Every URL that the page asked for, websockets included."""
        asked = [e["request"]["url"] for e in self.events("Network.requestWillBeSent")]
        return asked + [e["url"] for e in self.events("Network.webSocketCreated")]

    def complaints(self) -> list[str]:
        """Uncaught exceptions, `console.error`, and what could not be loaded."""
        thrown = [described(e["exceptionDetails"]) for e in self.events("Runtime.exceptionThrown")]
        said = [
            " ".join(str(a.get("value", a.get("description"))) for a in e["args"])
            for e in self.events("Runtime.consoleAPICalled")
            if e["type"] in ("error", "assert")
        ]
        logged = [
            f"{e['entry']['text']} {e['entry'].get('url', '')}".strip()
            for e in self.events("Log.entryAdded")
            # Nobody asked for a symbol of the page.
            if e["entry"]["level"] == "error" and "/favicon.ico" not in e["entry"].get("url", "")
        ]
        return thrown + said + logged

    def forgive(self) -> None:
        """Forgets the complaints so far, where a test expects them."""
        self.complaints()
        for method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.browser.seen[self.session, method].clear()

    def close(self) -> None:
        """As a person closes it: the page is gone, and with it its connections."""
        self.browser.windows.remove(self)
        self.browser.call("Target.closeTarget", targetId=self.target)


def described(details: dict[str, Any]) -> str:
    exception = details.get("exception", {})
    return exception.get("description") or str(exception.get("value", details.get("text")))


class Chromium:
    """One browser."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.folder = Path(tempfile.mkdtemp(prefix="greenloom-chromium-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.windows: list[Window] = []
        self.contexts: list[str] = []
        self.last = 0
        self.ended = False
        self.buffer = b""
        self.answers: dict[int, dict[str, Any]] = {}
        self.seen: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)

    def start(self) -> None:
        its_input, self.commands = os.pipe()
        self.reports, its_output = os.pipe()
        options = [*OPTIONS, f"--user-data-dir={self.folder}/profile"]
        if os.geteuid() == 0:
            options.append("--no-sandbox")
        # It reads from descriptor 3 and writes to 4.
        opened = f'exec "$@" 3</dev/fd/{its_input} 4>/dev/fd/{its_output}'
        env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        env |= {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        env |= {f"XDG_{name}_HOME": str(self.folder) for name in ("CONFIG", "CACHE", "DATA")}
        try:
            with (self.folder / "log").open("wb") as out:
                self.process = subprocess.Popen(
                    ["/bin/sh", "-c", opened, "sh", self.program, *options],
                    cwd=self.folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(its_input, its_output),
                )
        finally:
            os.close(its_input)
            os.close(its_output)
        os.set_blocking(self.reports, False)
        self.call("Browser.getVersion")

    @property
    def version(self) -> str:
        return self.call("Browser.getVersion")["product"]

    def open(
        self,
        url: str = "about:blank",
        width: int = 1280,
        height: int = 800,
        *,
        phone: bool = False,
        alone: bool = False,
    ) -> Window:
        """A new window; `alone` shares no cookies and no storage with the others."""
        how: dict[str, Any] = {"width": width, "height": height, "newWindow": True}
        if alone:
            self.contexts.append(self.call("Target.createBrowserContext")["browserContextId"])
            how["browserContextId"] = self.contexts[-1]
        target = self.call("Target.createTarget", url="about:blank", **how)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        window = Window(self, target, session)
        self.windows.append(window)
        for domain in ("Page", "Runtime", "Network", "Log"):
            window.call(f"{domain}.enable")
        window.resize(width, height, phone)
        if url != "about:blank":
            window.load(url)
        return window

    def close_windows(self) -> list[str]:
        """Returns what their pages complained about."""
        complaints = [complaint for window in self.windows for complaint in window.complaints()]
        while self.windows:
            self.windows[-1].close()
        while self.contexts:
            self.call("Target.disposeBrowserContext", browserContextId=self.contexts.pop())
        self.seen.clear()
        return complaints

    # The protocol: JSON, each message ended by a null byte.

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = self.say(method, session, parameters)
        end = time.monotonic() + ANSWER_DEADLINE_S
        while number not in self.answers:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no answer to {method}; its log:\n{self.log()}")
            if select.select([self.reports], [], [], left)[0]:
                self.read_waiting()
            if self.ended and number not in self.answers:
                raise AssertionError(f"the browser has ended; its log:\n{self.log()}")
        answer = self.answers.pop(number)
        if "error" in answer:
            raise Failed(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def say(self, method: str, session: str | None, parameters: dict[str, Any]) -> int:
        """Sends a command, and returns the number that its answer will have."""
        self.last += 1
        message: dict[str, Any] = {"id": self.last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            try:
                data = data[os.write(self.commands, data) :]
            except BrokenPipeError:
                raise AssertionError(f"the browser has ended; its log:\n{self.log()}") from None
        return self.last

    def read_waiting(self) -> None:
        """Takes in what is here already."""
        while True:
            try:
                data = os.read(self.reports, 1 << 20)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            *messages, self.buffer = (self.buffer + data).split(b"\0")
            for raw in messages:
                message = json.loads(raw)
                if "id" in message:
                    self.answers[message["id"]] = message
                else:
                    key = message.get("sessionId", ""), message["method"]
                    self.seen[key].append(message["params"])

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _gone(self) -> bool:
        """It must be listened to until its end."""
        assert self.process is not None
        self.read_waiting()
        return self.process.poll() is not None

    def stop(self) -> None:
        """Asks it to end; what is left of it afterwards is killed."""
        if self.process is None:
            shutil.rmtree(self.folder)
            return
        below = {pid: procs.start_time(pid) for pid in procs.descendants(self.process.pid)}

        def left() -> list[int]:
            return [p for p, t in below.items() if procs.alive(p) and procs.start_time(p) == t]

        try:
            if self.process.poll() is None:
                self.say("Browser.close", None, {})
            until(self._gone, "the browser ends", STOP_DEADLINE_S)
            until(lambda: not left(), "the processes of the browser end")
        finally:
            for pid in left():
                os.kill(pid, signal.SIGKILL)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            os.close(self.commands)
            os.close(self.reports)
            shutil.rmtree(self.folder)
