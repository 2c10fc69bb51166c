"""A real browser without a window, spoken to through two pipes."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Chromium reads commands at file 3 and answers at file 4, wherever they were opened.
START = "import os,sys;os.dup2({},3);os.dup2({},4);os.execv(sys.argv[1],sys.argv[1:])"
OPTIONS = (
    "--headless --remote-debugging-pipe --no-sandbox --disable-gpu --no-first-run "
    "--disable-dev-shm-usage --disable-extensions --disable-background-networking "
    "--hide-scrollbars --force-color-profile=srgb"
).split()

KEYS = {
    **{"Escape": (27, ""), "Enter": (13, "\r")},
    **{"ArrowLeft": (37, ""), "ArrowRight": (39, "")},
}


def find():
    """Give the path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser: what it shows, computes and complains about."""

    def __init__(self, commands, answers):
        self.commands, self.answers = commands, answers
        self.number, self.session, self.events = 0, {}, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def read(self):
        """Wait for the next message."""
        message = bytearray()
        while not message.endswith(b"\0"):
            piece = self.answers.read(1)
            if not piece:
                raise EOFError("the browser has ended")
            message += piece
        return json.loads(message[:-1])

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.commands.write(json.dumps(message | self.session).encode() + b"\0")
        self.commands.flush()
        while (found := self.read()).get("id") != self.number:
            self.events.append(found)
        assert "error" not in found, found
        return found["result"]

    def open(self, address, width, height=900, dark=False):
        """Load a page in a window of a size, in light or dark colours."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1},
            mobile=width < 500,
        )
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self.read())

    def value(self, script):
        """Compute a value on the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector):
        """Press the mouse in the middle of an element."""
        box = self.value(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **where)

    def press(self, key):
        number, text = KEYS[key]
        named = {"key": key, "code": key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def complaints(self):
        """List errors of scripts, and what the browser refused."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
        return [event for event in self.events if event.get("method") in kinds]

    def requests(self):
        """List what was asked of a network or a disk."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def photograph(self, file, whole=False):
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        with open(file, "wb") as stream:
            stream.write(base64.b64decode(found["data"]))


@contextlib.contextmanager
def running():
    """Start the browser, and end it with the block."""
    theirs, ours = os.pipe(), os.pipe()
    read, write = (fcntl.fcntl(f, fcntl.F_DUPFD, 10) for f in (theirs[0], ours[1]))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [sys.executable, "-c", START.format(read, write), find(), *OPTIONS]
        process = subprocess.Popen(
            [*words, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read, write),
            stderr=subprocess.DEVNULL,
        )
        for file in (read, write, theirs[0], ours[1]):
            os.close(file)
        commands, answers = os.fdopen(theirs[1], "wb"), os.fdopen(ours[0], "rb")
        try:
            yield Browser(commands, answers)
        finally:
            process.kill()
            process.wait()
            commands.close()
            answers.close()
