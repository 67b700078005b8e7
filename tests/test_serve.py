"""`python -m spotjax.serve`: who is let in, what goes out, and a video dropped in a browser.

The tests of the running page need Gradio, those in the browser Playwright's Python package and an
installed Chromium or Chrome too; without them they are skipped:

    pip install -e '.[app]' playwright
    python -m pytest tests/test_serve.py
"""

import asyncio
import csv
import http.client
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import pytest
from own_clips import images, swing, write_clip

from spotjax import serve

CACHE = Path(__file__).resolve().parents[1] / ".jax_cache"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), ""
)
MOST_MB = 2
PATIENCE_S = 240
needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="needs Gradio: pip install '.[app]'"
)
needs_browser = pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None or not BROWSER,
    reason="needs Chromium or Chrome, and pip install playwright",
)


@pytest.fixture
def own_environment(monkeypatch):
    """`require_library` changes the environment of its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


# --- without the library --------------------------------------------------------------------------


def run_through(path, headers):
    """Status, headers and body of the answer of a `Fence` before an application that says yes."""
    sent = []

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"yes"})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": list(headers.items())}
    asyncio.run(serve.Fence(application)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_answers_forbid_the_browser_to_go_elsewhere():
    status, headers, body = run_through("/", {b"host": b"127.0.0.1:7860"})
    assert (status, body, headers[b"a"]) == (200, b"yes", b"b")
    policy = headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'self'") and "http" not in policy and "*" not in policy


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/gradio_api/upload", {b"Origin": b"http://127.0.0.1:7860"}, 200),
        ("/gradio_api/upload", {b"origin": b"https://evil.example"}, 403),
        ("/gradio_api/upload", {b"origin": b"http://127.0.0.1:9000"}, 403),
        ("/gradio_api/upload", {b"origin": b"null"}, 403),
        ("/gradio_api/file=/tmp/http:/a.csv", {}, 200),
        ("/gradio_api/file=https://example.com/a", {}, 403),
        ("/gradio_api/proxy=https://example.com/a", {}, 403),
    ],
)
def test_other_pages_and_other_addresses_are_refused(path, headers, status):
    assert run_through(path, {b"host": b"127.0.0.1:7860"} | headers)[0] == status


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "error: Gradio cannot be imported (import of gradio halted; None in sys.modules): "),
        (types.SimpleNamespace(__version__="3.36.1"), "error: Gradio 3.36.1 is too old: "),
    ],
)
def test_without_the_library(monkeypatch, capsys, tmp_path, own_environment, module, message):
    monkeypatch.setitem(sys.modules, "gradio", module)
    monkeypatch.setattr(serve.tempfile, "tempdir", str(tmp_path))
    assert serve.main([]) == 2
    remedy = "pip install 'spotjax[app]' brings what the page needs\n"
    assert capsys.readouterr().err == message + remedy
    assert not list(tmp_path.iterdir())


def test_nothing_is_sent_or_shared_whatever_the_environment_says(
    monkeypatch, tmp_path, own_environment
):
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(__version__="6.31.0"))
    for name in ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "True")
    monkeypatch.setenv("no_proxy", "example.org")
    serve.require_library(tmp_path)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == os.environ["GRADIO_SHARE"] == "False"
    assert "GRADIO_ALLOWED_PATHS" not in os.environ
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
    assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "0"], "error: --port 0: a number from 1 to 65535"),
        (["--most-mb", "0"], "error: --most-mb 0: the largest upload in MB"),
        (["--weights", "gone.npz"], "error: gone.npz: no such file"),
    ],
)
def test_one_line_for_what_cannot_be_used(
    monkeypatch, capsys, tmp_path, own_environment, arguments, message
):
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(__version__="6.31.0"))
    monkeypatch.setattr(serve.tempfile, "tempdir", str(tmp_path))
    assert serve.main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith(message)
    assert not list(tmp_path.iterdir())


def test_the_risks_are_told(tmp_path):
    assert not list(serve.risks("127.0.0.1", 1, tmp_path))
    (host,) = serve.risks("0.0.0.0", 1, tmp_path)
    assert host.startswith("--host 0.0.0.0: whoever reaches this address can use the page, without")
    (room,) = serve.risks("localhost", 10**12, tmp_path)
    assert room.startswith(f"{tmp_path}: ") and "set TMPDIR" in room


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as ended:
        serve.main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "python -m spotjax.serve --weights softnet.spotjax.npz --out found" in text
    assert "pip install 'spotjax[app]'" in text and "Nothing leaves your machine." in text


# --- the running page -----------------------------------------------------------------------------


WATCHED = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        place = arguments[1] if event == "socket.connect" else arguments[0]
        with open({log!r}, "a") as log:
            print(place[0] if isinstance(place, tuple) else place, file=log)
sys.addaudithook(watch)
from spotjax import serve
sys.exit(serve.main())
"""
"""The command, whose connections to anywhere are written down."""


class Server:
    """`python -m spotjax.serve` in a process; `folder` holds all its temporary files."""

    def __init__(self, folder, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.log = folder, folder / "connections"
        code = WATCHED.format(log=str(self.log))
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "--port", str(self.port), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {
                "TMPDIR": str(folder), "JAX_COMPILATION_CACHE_DIR": str(CACHE),
                "JAX_PLATFORMS": "cpu", "GRADIO_HEARTBEAT_INTERVAL": "1",
            },
        )  # fmt: skip
        self.url = self.process.stdout.readline().strip()

    def status(self, path, **headers):
        """HTTP status of a GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def private(self):
        """What lies in its private folder of people: uploads and results."""
        return [
            path
            for name in ("uploads", "results")
            for path in self.folder.glob(f"spotjax-*/{name}/*")
            if path.is_dir() and any(path.iterdir())
        ]

    def end(self):
        """Exit status and what it said."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = Server(tmp_path_factory.mktemp("tmp"), "--most-mb", str(MOST_MB))
    yield found
    if found.process.poll() is None:
        found.process.kill()
        found.process.communicate()


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "interview.mp4", images(swing(60)))
    write_clip(folder / "<b>two.avi", images(swing(60)))
    (folder / "bad.mp4").write_text("no video")
    (folder / "large.mp4").write_bytes(bytes(MOST_MB * 2**20 + 1))
    return folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"], timeout=PATIENCE_S * 1000
        )
        yield found
        found.close()


@needs_gradio
def test_only_this_machine_under_its_own_name(server):
    assert server.url == f"http://127.0.0.1:{server.port}/"
    assert server.status("/") == 200
    assert server.status("/", Host="evil.example") == 400
    assert server.status("/", Origin="http://evil.example") == 403
    assert server.status("/gradio_api/file=https://example.com/") == 403
    assert server.status("/gradio_api/file=/etc/passwd") == 403
    with pytest.raises(ConnectionRefusedError):  # another address of this machine
        socket.create_connection(("127.0.0.2", server.port), timeout=10)


@needs_gradio
def test_a_port_that_is_taken(server, tmp_path, capfd):
    said = subprocess.run(
        [sys.executable, "-m", "spotjax.serve", "--port", str(server.port)],
        capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert said.returncode == 2 and said.stderr.splitlines()[-1] == (
        f"error: --host 127.0.0.1 --port {server.port}: cannot be had: name another --port"
    )
    assert "Traceback" not in said.stderr
    assert not list(tmp_path.glob("spotjax-*"))


def opened(browser, server, asked):
    """A page at the server's address.

    The addresses that it asks for, and those that the browser forbids it, are added to `asked`.
    """
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(PATIENCE_S * 1000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: asked.append(said.text) if said.type == "error" else None)
    page.goto(server.url)
    page.wait_for_selector("#video input[type=file]", state="attached")
    return page


def give(page, path):
    """Drop a video on the page and begin."""
    page.set_input_files("#video input[type=file]", path)
    page.wait_for_selector(f"#video >> text={path.suffix}")
    page.wait_for_selector("#video a[download], #video button[aria-label*=lear]")
    page.click("#start")


@needs_gradio
@needs_browser
def test_a_dropped_video_is_looked_at_and_its_files_come_down(server, browser, clips, tmp_path):
    asked = []
    page = opened(browser, server, asked)
    assert "not a lie detector and not a diagnosis" in page.inner_text("body")
    assert f"mp4, mov, avi, mkv, webm, {MOST_MB} MB at most" in page.inner_text("#video")
    assert page.locator("#cancel").is_disabled()
    give(page, clips / "interview.mp4")
    page.wait_for_selector("#state progress")
    page.wait_for_selector("#found iframe")
    assert page.inner_text("#state").strip() == "Done"
    rows = [
        row.locator("td").all_inner_texts() for row in page.locator("#intervals tbody tr").all()
    ]
    loaded = {}
    for link in page.locator("#found a").all():
        with page.expect_download() as download:
            link.click()
        name = download.value.suggested_filename
        loaded[name] = tmp_path / name
        download.value.save_as(loaded[name])
    with open(loaded["interview.spot.csv"], newline="") as handle:
        table = list(csv.DictReader(handle))
    assert rows and [(row[0], row[5]) for row in rows] == [
        (row["type"], f"{row['onset_frame']} to {row['offset_frame']}") for row in table
    ]
    with zipfile.ZipFile(loaded.pop("interview.zip")) as packed:
        assert set(packed.namelist()) == set(loaded)
        assert all(packed.read(name) == path.read_bytes() for name, path in loaded.items())
    frame = page.frame_locator("#found iframe")
    assert frame.locator("h1").inner_text() == "Facial expressions in interview.mp4"
    frame.locator("nav a", has_text="Settings").click()
    assert frame.locator("h1").count() == 1  # still the same page
    own = (server.url, "data:", "about:", "blob:")
    assert asked and not [url for url in asked if not url.startswith(own)]
    held = server.private()
    assert len(held) >= 2
    page.close()
    until = time.monotonic() + 60
    while server.private():
        assert time.monotonic() < until
        time.sleep(0.2)


@needs_gradio
@needs_browser
def test_bad_files_waiting_and_cancelling(server, browser, clips):
    page, other = opened(browser, server, []), opened(browser, server, [])
    page.click("#start")
    page.wait_for_selector("#state .bad")
    assert page.inner_text("#state").strip() == "choose a video first"
    page.set_input_files("#video input[type=file]", clips / "large.mp4")
    page.wait_for_selector(f"text=exceed the maximum allowed size of {MOST_MB}")
    page.reload()
    page.wait_for_selector("#video input[type=file]", state="attached")
    give(page, clips / "bad.mp4")
    page.wait_for_selector("#state >> text=cannot be opened as a video")
    assert page.inner_text("#state").strip().startswith("bad.mp4: cannot be opened as a video")
    give(other, clips / "<b>two.avi")
    other.wait_for_selector("#state progress")
    page.reload()
    page.wait_for_selector("#video input[type=file]", state="attached")
    give(page, clips / "interview.mp4")
    page.wait_for_selector("#cancel:not([disabled])")
    page.click("#cancel")
    page.wait_for_selector("#state >> text=Cancelled")
    assert page.locator("#start").is_enabled()
    other.wait_for_selector("#found iframe")
    assert other.locator("#found h2 b").count() == 0
    page.close()
    other.close()


@needs_gradio
def test_at_the_end_nothing_is_left(server):
    status, said = server.end()
    assert status == 0 and said.strip().endswith("uploads and their results are deleted")
    assert "Traceback" not in said
    assert not list(server.folder.glob("spotjax-*"))
    assert set(server.log.read_text().split()) == {"127.0.0.1"}
