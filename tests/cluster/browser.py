"""A headless Chromium, driven by its remote debugging protocol through two pipes. It needs no network and no other program."""
import base64
import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """with Browser(profile directory) as b: b.open("file:///…"); what goes wrong on pages is in b.errors, what they load in b.requests."""

    def __init__(self, profile):
        self.profile, self.id, self.buffer, self.session = profile, 0, b"", None
        self.errors, self.requests, self.events = [], [], []

    def __enter__(self):
        to_child, self.out = os.pipe()
        self.input, from_child = os.pipe()

        def descriptors():      # Chromium reads 3 and writes 4
            a, b = os.dup(to_child), os.dup(from_child)
            os.dup2(a, 3)
            os.dup2(b, 4)
        self.process = subprocess.Popen(
            [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"],
            preexec_fn=descriptors, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_child)
        os.close(from_child)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self.out)
        self.process.kill()
        self.process.wait()
        os.close(self.input)

    def message(self, deadline):
        while b"\0" not in self.buffer:
            assert select.select([self.input], [], [], max(0, deadline - time.monotonic()))[0], "Chromium does not answer"
            data = os.read(self.input, 1 << 20)
            assert data, "Chromium has ended"
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        m = json.loads(text)
        self.note(m)
        return m

    def note(self, m):
        method, p = m.get("method"), m.get("params", {})
        if method == "Runtime.exceptionThrown" or (method == "Log.entryAdded" and p["entry"]["level"] == "error"):
            self.errors.append(p)
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(p)
        elif method == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])
        if method:
            self.events.append(method)

    def call(self, method, **params):
        self.id += 1
        m = {"id": self.id, "method": method, "params": params}
        if self.session:
            m["sessionId"] = self.session
        os.write(self.out, json.dumps(m).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self.message(deadline)
            if answer.get("id") == self.id:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + 60
        while "Page.loadEventFired" not in self.events:
            self.message(deadline)

    def evaluate(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in r, r
        return r["result"].get("value")

    def look(self, width, scheme="light", media="screen"):
        """The page as a phone, a screen or a printer sees it."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def click(self, selector):
        x, y = self.evaluate(f"(e => {{ e.scrollIntoView(); const r = e.getBoundingClientRect(); return [r.x + 5, r.y + r.height / 2]; }})"
                             f"(document.querySelector({json.dumps(selector)}))")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        r = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(r["data"]))
