"""A page in headless Chromium, driven over its DevTools protocol with the standard library alone.

As a script it takes the screenshot of a page, whole or its upper part:

    python tests/browser.py output/logs/preview.html images/sample-results.png --height 1400

The protocol: https://chromedevtools.github.io/devtools-protocol/. With --remote-debugging-pipe
Chromium reads JSON messages from file descriptor 3 and writes them to 4, each ended by a zero byte.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with it, and the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's /dev/shm is often too small
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)

# Key -> its virtual key code.
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Browser:
    """One tab of a headless Chromium, for use in a `with` statement.

    Attributes:
        problems: what Chromium has reported: script errors, console messages, violations of the
            content security policy.
        requests: the addresses the pages asked for.
    """

    def __init__(self, timeout: float = 60) -> None:
        """Starts Chromium; timeout is in seconds, for each answer."""
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._timeout = timeout
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._message_id = 0
        self._session: str | None = None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        its_input, self._to_chromium = os.pipe()
        self._from_chromium, its_output = os.pipe()

        def hand_over() -> None:
            # By way of higher numbers, since 3 and 4 may themselves be among the pipes' numbers.
            high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (its_input, its_output)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=hand_over,  # noqa: PLW1509, no threads run yet
        )
        os.close(its_input)
        os.close(its_output)

    def __enter__(self) -> Self:
        """Opens the tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        """Ends Chromium."""
        os.close(self._to_chromium)  # at the end of its input, Chromium quits
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from_chromium)
        self._profile.cleanup()

    def open(self, page: Path, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Opens a file in a window of so many CSS pixels and waits until it is complete."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value, as JSON knows it, of a JavaScript expression in the page."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Clicks with the mouse on the first element that a CSS selector finds, scrolled to."""
        script = f"""(() => {{
            const found = document.querySelector({selector!r});
            found.scrollIntoView({{block: "center", behavior: "instant"}});
            const box = found.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = self.evaluate(script)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def write(self, text: str) -> None:
        """Writes text where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Presses a key: Tab, Enter, Escape, Home, End, an arrow."""
        code = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **text,
            )

    def screenshot(self, target: Path, height: int | None = None) -> None:
        """Writes a PNG of the page from its top, down to `height` CSS pixels or to its end."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(height or size["height"], size["height"]),
            "scale": 1,
        }
        png = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        target.write_bytes(base64.b64decode(png))

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result.

        Raises:
            RuntimeError: Chromium answers with an error, or ended.
            TimeoutError: Chromium does not answer.
        """
        self._message_id += 1
        message = {"id": self._message_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to_chromium, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._message_id:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        """The next message; an event's content is noted too."""
        until = time.monotonic() + self._timeout
        while b"\0" not in self._buffer:
            if not select.select([self._from_chromium], [], [], until - time.monotonic())[0]:
                raise TimeoutError("Chromium does not answer")
            received = os.read(self._from_chromium, 1 << 20)
            if not received:
                raise RuntimeError("Chromium has ended")
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.problems.append(str(parameters["args"]))
            case "Log.entryAdded":
                self.problems.append(parameters["entry"]["text"])
            case "Page.javascriptDialogOpening":
                self.problems.append(f"dialog: {parameters['message']}")
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
        if "method" in message:
            self._events.append(message)
        return message


def main() -> None:
    """Takes a screenshot."""
    parser = argparse.ArgumentParser(description="Screenshot of a preview page.")
    parser.add_argument("page", type=Path)
    parser.add_argument("png", type=Path)
    parser.add_argument("--width", type=int, default=1200, help="of the window, in CSS pixels")
    parser.add_argument("--height", type=int, help="of the picture; the whole page if omitted")
    parser.add_argument("--dark", action="store_true", help="dark mode")
    arguments = parser.parse_args()
    if not CHROMIUM:
        parser.error("Chromium is not installed (Debian: apt-get install chromium)")
    with Browser() as browser:
        browser.open(arguments.page, arguments.width, dark=arguments.dark)
        browser.screenshot(arguments.png, arguments.height)


if __name__ == "__main__":
    main()
