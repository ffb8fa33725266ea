"""Sliders in JupyterLab, in a real browser: one is moved, the picture changes, nothing is an error.

Needs jupyterlab, ipywidgets and Chromium; the browser is driven by its own debugging protocol. The
screenshot is kept as out/explore.png.
"""

from __future__ import annotations

import base64
import importlib.util
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = 60.0  # seconds for each of the waits
PICTURE = "document.querySelector('.jupyter-widgets.widget-image')"
CODE = """\
import numpy as np
from lqrad import StateSpace, explore

plant = StateSpace([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[1, 0]], dt=0.1)
explore.design(plant, np.eye(2), [[1]], Q_i=[[0.01]])"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(command, log, **options):
    """A process of ours and its children, ended with the test."""
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(ask, what):
    """The first true answer."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = ask()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {PATIENCE:g} s for {what}")


def fetched(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class Tab:
    """A page of the browser: what it is told, and what it logs."""

    def __init__(self, address):
        import websocket

        self.socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        self.numbers, self.errors = itertools.count(1), []
        for domain in ("Runtime", "Log", "Page"):
            self.tell(f"{domain}.enable")
        self.tell("Page.bringToFront")

    def tell(self, method, **details):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": details}))
        while True:
            message = json.loads(self.socket.recv())
            self._note(message)
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def _note(self, message):
        told = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(told["exceptionDetails"])
        if message.get("method") == "Runtime.consoleAPICalled" and told["type"] == "error":
            self.errors.append([one.get("value", one.get("description")) for one in told["args"]])
        if message.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append((told["entry"]["text"], told["entry"].get("url")))

    def ask(self, expression):
        answer = self.tell("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.tell("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot")["data"]))


@pytest.fixture
def tab(tmp_path):
    for module in ("jupyterlab", "ipywidgets", "websocket"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'lqrad[notebook]'")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    cell = {"cell_type": "code", "id": "one", "metadata": {}, "outputs": [], "source": CODE}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": [{**cell, "execution_count": None}], "metadata": {"kernelspec": kernel}}
    work = tmp_path / "work"
    work.mkdir()
    (work / "explore.ipynb").write_text(
        json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 5})
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    for name in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{name}_DIR"] = str(tmp_path / name.lower())
    for name in ("settings", "workspaces"):
        environment[f"JUPYTERLAB_{name.upper()}_DIR"] = str(tmp_path / name)
    port, debugging = free_port(), free_port()
    lab = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    lab += ["--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=", "--ServerApp.password="]
    lab += [
        "--expose-app-in-browser",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    browser += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    browser += ["--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,1000"]
    browser += [f"--user-data-dir={tmp_path / 'browser'}", f"--remote-debugging-port={debugging}"]
    log = {name: tmp_path / f"{name}.log" for name in ("lab", "browser")}
    with (
        running(lab, log["lab"], cwd=work, env=environment),
        running([*browser, "about:blank"], log["browser"]),
    ):
        until(lambda: fetched(f"http://127.0.0.1:{port}/api"), "JupyterLab")
        pages = until(lambda: fetched(f"http://127.0.0.1:{debugging}/json"), "Chromium")
        page = next(one for one in pages if one["type"] == "page")
        opened = Tab(page["webSocketDebuggerUrl"])
        opened.tell("Page.navigate", url=f"http://127.0.0.1:{port}/lab/tree/explore.ipynb")
        yield opened
        opened.socket.close()


def test_a_slider_is_moved_and_the_picture_changes(tab):
    prompt = "document.querySelector('.jp-Notebook .jp-Cell .jp-InputPrompt')"
    idle = "document.querySelector('.jp-Notebook-ExecutionIndicator[data-status=idle]')"
    until(lambda: tab.ask(f"!!({prompt} && {idle})"), "the notebook and its kernel")
    run = "window.jupyterapp.commands.execute('notebook:run-cell') && 0"
    started = "!/^\\[ \\]/.test(" + prompt + ".textContent)"
    until(lambda: tab.ask(started) or tab.ask(run), "the cell to run")
    time.sleep(2)  # where it was asked for twice
    handle = "document.querySelectorAll('.widget-slider .noUi-handle')"
    try:
        until(lambda: tab.ask(f"!!({PICTURE} && {PICTURE}.naturalWidth)"), "the picture")
        assert tab.ask(f"{handle}.length") == 4
        value = "document.querySelectorAll('.widget-readout')[2].textContent"
        assert tab.ask(value) == "1.00"
        before = tab.ask(f"{PICTURE}.src")

        def moved():
            # A dialog of JupyterLab's own takes the keys where it opens late.
            tab.ask(
                "document.querySelectorAll('.jp-Dialog .jp-mod-reject').forEach(b => b.click())"
            )
            tab.ask(f"{handle}[2].focus()")
            tab.press("ArrowRight")
            return tab.ask(value) != "1.00" and tab.ask(f"{PICTURE}.src") != before

        until(moved, "another picture")
        time.sleep(2)  # the last move's picture, and what it may log
        assert tab.ask(f"{PICTURE}.naturalWidth") > 500
        assert tab.ask("document.querySelectorAll('[data-mime-type*=stderr]').length") == 0
        assert tab.errors == []
    finally:
        tab.screenshot(ROOT / "out" / "explore.png")
