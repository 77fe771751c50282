"""Headless Chromium driven over its DevTools protocol: real clicks and keys, scripts of pages switched off."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)
START_S = 60.0
ENTER_KEY = 13


class Browser:
    """One page without JavaScript; https://chromedevtools.github.io/devtools-protocol names the commands."""

    def __init__(self, profile: Path, width_px: int = 1200, flags: Sequence[str] = FLAGS) -> None:
        if CHROMIUM is None:
            raise RuntimeError("no Chromium on this machine")
        self._profile = profile
        self._width_px = width_px
        self._loop = asyncio.new_event_loop()
        self._ids = itertools.count(1)
        self._process = subprocess.Popen(
            [CHROMIUM, *flags, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        try:
            self._loop.run_until_complete(self._connect())
        except BaseException:
            self._process.kill()
            raise
        self._call("Emulation.setScriptExecutionDisabled", value=True)
        for domain in ("Page", "DOM"):
            self._call(f"{domain}.enable")
        size = {"width": self._width_px, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._session.close())
        self._process.terminate()
        self._process.wait(30)
        self._loop.close()

    def open(self, url: str) -> None:
        """Go to ``url`` and wait for the page."""
        self._call("Page.navigate", url=url)
        self.settled()

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._call("DOM.focus", nodeId=self._node(selector))
        self._call("Input.insertText", text=text)

    def enter(self) -> None:
        """Press Enter where the focus is, and wait for the page that follows."""
        before = self._address()
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=ENTER_KEY)
        end_s = time.monotonic() + START_S
        while self._address() == before and time.monotonic() < end_s:
            time.sleep(0.05)
        self.settled()

    def html(self) -> str:
        """The document as the browser has it."""
        root = self._call("DOM.getDocument", depth=0)["root"]["nodeId"]
        return str(self._call("DOM.getOuterHTML", nodeId=root)["outerHTML"])

    def overflow_px(self) -> int:
        """By how much the document is wider than the window: ``scrollWidth`` of its root less the window's width."""
        return max(0, int(self._call("Page.getLayoutMetrics")["cssContentSize"]["width"]) - self._width_px)

    def screenshot(self) -> bytes:
        """The page as PNG."""
        import base64

        return base64.b64decode(self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _node(self, selector: str) -> int:
        root = self._call("DOM.getDocument", depth=0)["root"]["nodeId"]
        found = int(self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"])
        if not found:
            raise LookupError(selector)
        return found

    def _address(self) -> str:
        try:
            history = self._call("Page.getNavigationHistory")
        except RuntimeError:
            return ""  # between two pages there is none
        return str(history["entries"][history["currentIndex"]]["url"])

    def settled(self) -> str:
        """The document once it has a body and stays the same for a moment: also of a page that loads itself anew."""
        end_s, last = time.monotonic() + START_S, ""
        while time.monotonic() < end_s:
            try:
                now = self.html()
            except RuntimeError:
                now = ""  # between two documents there is none
            if "</body>" in now and now == last:
                return now
            last = now
            time.sleep(0.1)
        raise TimeoutError(self._address())

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self._exchange(method, parameters))

    async def _connect(self) -> None:
        import aiohttp

        port_file = self._profile / "DevToolsActivePort"
        end_s = time.monotonic() + START_S
        while not (port_file.exists() and port_file.read_text(encoding="ascii").count("\n")):
            if time.monotonic() > end_s:
                raise TimeoutError("Chromium does not start")
            await asyncio.sleep(0.05)
        port = int(port_file.read_text(encoding="ascii").split("\n")[0])
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [target for target in await answer.json() if target["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def _exchange(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await asyncio.wait_for(self._socket.receive_json(), START_S)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                found: dict[str, Any] = answer["result"]
                return found
