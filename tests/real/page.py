"""The page of the admin listener in headless Chromium, in front of `ringway demo`: it loads, its numbers move under load, a
backend that is switched off turns red and comes back, and nothing is complained about. Takes the program, the browser, and a
directory for pictures; standard library only.
"""

import base64
import contextlib
import fcntl
import http.client
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE_SECONDS = 60


class Browser:
    """The DevTools protocol over pipes: JSON messages that end with a zero byte."""

    def __init__(self, program, profile):
        (theirs_in, self.out), (self.back, theirs_out) = os.pipe(), os.pipe()
        # To become the child's descriptors 3 and 4, which they must not be before.
        ends = (theirs_in, theirs_out)
        theirs_in, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in ends)
        for end in ends:
            os.close(end)
        script = f"exec 3<&{theirs_in} 4>&{theirs_out}; exec \"$0\" \"$@\""
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = ["bash", "-c", script, program, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self.child = subprocess.Popen(command, pass_fds=[theirs_in, theirs_out], stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.numbers, self.buffer, self.complaints, self.session = itertools.count(1), b"", [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def read(self):
        while b"\0" not in self.buffer:
            more = os.read(self.back, 1 << 16)
            if not more:
                sys.exit("the browser has ended")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(message)
        kind, about = message.get("method"), message.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.complaints.append(about["exceptionDetails"].get("exception", about["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(about["args"])
        elif kind == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"])
        elif kind == "Network.requestWillBeSent":
            self.urls = {*getattr(self, "urls", ()), about["request"]["url"]}
        return message

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != number:
            pass
        if "error" in answer:
            sys.exit(f"{method}: {answer['error']}")
        return answer["result"]

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def until(self, what, expression, wanted=bool):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not wanted(value := self.value(expression)):
            if time.monotonic() > deadline:
                print(self.value("document.body.innerText"))
                check(f"{what} ({value!r})", False)
            time.sleep(0.1)
        check(what, True)
        return value

    def picture(self, path, scheme, width=1440, height=1050):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Runtime.evaluate", expression="new Promise(done => setTimeout(done, 300))", awaitPromise=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def end(self):
        self.child.terminate()
        self.child.wait()


class Load:
    """Requests one after another, half of them repeated, until it is ended. Every one must be answered with 200."""

    def __init__(self, address):
        self.address, self.going, self.statuses = address, True, []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_SECONDS)
        for number in itertools.count():
            if not self.going:
                return connection.close()
            content = f"question {number if number % 2 else number - 1}"
            body = {"model": "demo-fast", "stream": number % 3 == 0, "messages": [{"role": "user", "content": content}]}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            self.statuses.append(answer.status)

    def end(self):
        self.going = False
        self.thread.join()


def check(what, truth):
    print(f"{'ok' if truth else 'NOT OK'}: {what}", flush=True)
    if not truth:
        raise SystemExit(1)


def post(url):
    host, path = re.fullmatch(r"http://([^/]+)(/.*)", url).groups()
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_SECONDS)
    connection.request("POST", path)
    check(f"POST {path}", connection.getresponse().status == 200)


def tile(name):
    return f"document.querySelector('[data-name=\"{name}\"] .value')?.textContent"


def is_value(wanted):
    return lambda value: value == wanted


def rate(text):
    """Whether a tile shows a number above zero."""
    return bool(re.match(r"[1-9]|0\.\d*[1-9]", text or ""))


def asks_for_the_token(program, chromium, directory):
    configuration = directory / "ringway.toml"
    configuration.write_text(
        '[server]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\ntoken = "the-token-of-the-page"\n'
        '[[backend]]\nname = "b"\nurl = "http://127.0.0.1:9"\n[[model]]\nname = "m"\nbackends = ["b"]\n'
    )
    node = subprocess.Popen([program, "serve", "--config", configuration], stderr=subprocess.PIPE, text=True)
    try:
        page = None
        while page is None:
            found = re.search(r"admin on (\S+)", node.stderr.readline() or sys.exit("the node has ended"))
            page = found and f"http://{found[1]}/"
        chromium.call("Page.navigate", url=page)
        asks = "document.querySelector('#ask')?.hidden"
        chromium.until("a node with a token asks for it", asks, lambda hidden: hidden is False)
        for token, state in [("wrong", "token"), ("the-token-of-the-page", "serving")]:
            chromium.value(f"document.querySelector('#token').value = '{token}'; document.querySelector('#ask').requestSubmit()")
            chromium.until(f"the token `{token}`", "document.querySelector('#state').textContent", is_value(state))
        check("and is content with the right one", chromium.value(asks) is True)
    finally:
        node.kill()
        node.wait()


def main():
    program, browser, pictures = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    pictures.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # Ports of the kernel's choice; the demo prints what it got.
        demo = subprocess.Popen(
            [program, "demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
        stack.callback(demo.kill)
        said = ""
        while "Stop with" not in said:
            line = demo.stdout.readline()
            said += line or sys.exit(f"the demo has ended: {said}")
        gateway = re.search(r"listens on http://(\S+) ", said)[1]
        page = re.search(r"open (http://\S+) in a browser", said)[1]
        off, on = re.search(r"http://\S+/demo/off", said)[0], re.search(r"http://\S+/demo/on", said)[0]
        chromium = Browser(browser, stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(chromium.end)
        chromium.call("Page.navigate", url=page)
        chromium.until("the page shows the node", "document.querySelector('#state')?.textContent", is_value("serving"))
        chromium.until("both backends serve", "document.querySelectorAll('tr.serving').length", is_value(2))
        check("no request so far", chromium.value(tile("Requests / s")) == "0")

        load = Load(gateway)
        stack.callback(load.end)
        chromium.until("requests a second move", tile("Requests / s"), rate)
        chromium.until("so do percentiles", tile("Request p95"), rate)
        chromium.until("and the hit rate", tile("Hit rate"), rate)
        chromium.until("and tokens", tile("Tokens / s"), rate)
        for chart in ["requests", "latency", "hits"]:
            chromium.until(f"a line in the chart of {chart}", f"document.querySelectorAll('#chart-{chart} .line').length")
        seen = chromium.value(tile("Requests / s") + " + document.querySelector('[data-name=\"Requests / s\"] .more').textContent")
        again = tile("Requests / s") + " + document.querySelector('[data-name=\"Requests / s\"] .more').textContent"
        chromium.until("they move again without loading anything", again, lambda now: now != seen)

        post(off)
        red = "getComputedStyle(document.querySelector('tr.tripped[data-backend=demo-two] .pill') ?? document.body).color"
        chromium.until("the backend that was switched off turns red", red, lambda color: color in ("rgb(200, 30, 30)", "rgb(248, 113, 113)"))
        why = "document.querySelector('tr.tripped td:last-child').textContent"
        chromium.until("and says why", why, lambda text: "closes the connection" in (text or "") or "errors in row" in (text or ""))
        chromium.value("document.querySelector('[data-backend=demo-two]').click()")
        chromium.until("a click shows its attempts", "document.querySelector('tr.detail')?.textContent", lambda text: "tripped" in (text or ""))
        chromium.until("the other one serves", "document.querySelector('[data-backend=demo-one]').className", lambda name: "serving" in name)
        chromium.until("requests go on", tile("Requests / s"), rate)
        for scheme in ["light", "dark"]:
            chromium.picture(pictures / f"{scheme}.png", scheme)
            theme = chromium.value("document.documentElement.dataset.theme")
            check(f"{scheme} where that is preferred", theme == scheme)
        chromium.picture(pictures / "narrow.png", "light", 420, 1600)
        check("no wider than a telephone", chromium.value("document.documentElement.scrollWidth") <= 420)
        post(on)
        chromium.until("switched on, it comes back", "document.querySelectorAll('tr.serving').length", is_value(2))
        load.end()
        check(f"every one of {len(load.statuses)} requests was answered", set(load.statuses) == {200})
        check(f"nothing from elsewhere: {sorted(chromium.urls)}", all(url.startswith(page) or url == "about:blank" for url in chromium.urls))
        check(f"no complaint in the console: {chromium.complaints}", not chromium.complaints)
        demo.send_signal(signal.SIGINT)
        check("the demo ends with the page open", demo.wait(PATIENCE_SECONDS) == 0)
        asks_for_the_token(program, chromium, pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory())))


if __name__ == "__main__":
    main()
