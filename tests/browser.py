"""A headless Chromium, driven through the pipe that it opens for its tools (Chrome DevTools Protocol). Python's own library is enough."""
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def chromium():
    """The browser's path; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """with Browser() as browser: browser.open("file:///…"); browser.run("document.title")"""

    def __init__(self, width=1280, height=900, dark=False):
        self.profile = tempfile.mkdtemp(prefix="browser_")
        read_there, self.write_here = os.pipe()
        self.read_here, write_there = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        redirect = f'exec 3<&{read_there} 4>&{write_there}; exec "$@" 2>/dev/null'
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--no-first-run",
             f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"],
            pass_fds=(read_there, write_there), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        os.close(read_there), os.close(write_there)
        self.number, self.held, self.events, self.session = 0, b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")
        self.size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.session = None
            self.call("Browser.close")
        except (OSError, EOFError, TimeoutError):
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os.close(self.write_here), os.close(self.read_here)
        shutil.rmtree(self.profile, ignore_errors=True)

    def size(self, width, height, mobile=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def message(self, seconds):
        """The next message of the browser; None where none comes in time."""
        until = time.monotonic() + seconds
        while b"\0" not in self.held:
            if not select.select([self.read_here], [], [], max(0, until - time.monotonic()))[0]:
                return None
            more = os.read(self.read_here, 1 << 20)
            if not more:
                raise EOFError("the browser is gone")
            self.held += more
        line, self.held = self.held.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, seconds=120, **parameters):
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        line = json.dumps(command).encode() + b"\0"
        while line:
            line = line[os.write(self.write_here, line):]
        until = time.monotonic() + seconds
        while True:
            found = self.message(max(0, until - time.monotonic()))
            if found is None:
                raise TimeoutError(method)
            if found.get("id") == self.number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']['message']}")
                return found["result"]
            if "method" in found:
                self.events.append(found)

    def wait(self, method, seconds=120):
        """Until an event of this name has come, from now on or since it was last asked for."""
        until = time.monotonic() + seconds
        while True:
            for i, event in enumerate(self.events):
                if event["method"] == method:
                    return self.events.pop(i)
            found = self.message(max(0, until - time.monotonic()))
            if found is None:
                raise TimeoutError(method)
            if "method" in found:
                self.events.append(found)

    def open(self, address):
        """Loads a page anew; the seconds until it had loaded."""
        self.call("Page.navigate", url="about:blank")  # else another place of the same page would load nothing
        self.wait("Page.loadEventFired")
        self.events = [event for event in self.events if event["method"] != "Page.loadEventFired"]
        begun = time.monotonic()
        self.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")
        return time.monotonic() - begun

    def run(self, script):
        """The value of a JavaScript expression (or of what it promises)."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def until(self, script, seconds=20):
        """Waits until an expression is true, and gives its value."""
        until = time.monotonic() + seconds
        while True:
            value = self.run(script)
            if value or time.monotonic() > until:
                return value
            time.sleep(0.05)

    def key(self, name):
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Tab": 9, "/": 191}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, windowsVirtualKeyCode=codes.get(name, 0), **({"text": name} if len(name) == 1 and kind == "keyDown" else {}))

    def complaints(self):
        """What the page's scripts or the browser complained of."""
        out = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                out.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning", "assert"):
                out.append(" ".join(str(one.get("value", one.get("description"))) for one in event["params"]["args"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                out.append(event["params"]["entry"]["text"])
        return out

    def picture(self, file, whole=False):
        import base64
        with open(file, "wb") as out:
            out.write(base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]))
