"""`python -m spotjax.serve`: a page on this machine to drop a video on (needs the extra `app`).

The page is Gradio's: it puts uploads on disk as they come, so that a long video fits.  It is served
to this machine alone.  Usage figures are switched off, and what the browser is sent forbids it to
load or send anything elsewhere.  Jobs and files are `own.service`'s.
"""

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spotjax.errors import UserError, command
from spotjax.own import service_page
from spotjax.own.service import FLOWS, SUFFIXES, Desk
from spotjax.parameters import weights
from spotjax.spot import DEMO

HERE = "127.0.0.1"
NAMES = (HERE, "localhost")
"""Names of this machine for itself."""
LEAST = (6, 31)
"""Version of Gradio."""
MISSING = "pip install 'spotjax[app]' brings what the page needs"
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; form-action 'self'"
)
"""Content-Security-Policy: nothing from, and nothing to, another machine."""
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
DEFAULT_FLOW = "as the weights were trained"


class Fence:
    """ASGI middleware: only this page talks to the server, and it only to the server."""

    def __init__(self, app: Any) -> None:
        """`app` is the ASGI application behind it."""
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse requests of other pages and those to fetch an address, add `POLICY` to answers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        foreign = origin is not None and origin.partition("://")[2] != headers.get(b"host")
        fetched = "/proxy=" in scope["path"] or scope["path"].partition("/file=")[2].startswith(
            ("http:", "https:")
        )
        if foreign or fetched:
            start = {"type": "http.response.start", "status": 403, "headers": []}
            await send(start)
            await send({"type": "http.response.body", "body": b"refused: not from this page\n"})
            return

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [
                    (b"content-security-policy", POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self._app(scope, receive, answer)


def require_library(uploads: Path) -> None:
    """See that Gradio can be imported, with nothing that it would send or share.

    Uploads go to `uploads`.  Raises UserError if it cannot.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # settings of other programs could open this one to others
    os.environ.update(SETTINGS | {"GRADIO_TEMP_DIR": str(uploads)})
    for name in ("NO_PROXY", "no_proxy"):  # it asks itself whether it is there
        os.environ[name] = ",".join([*filter(None, [os.environ.get(name)]), *NAMES])
    try:
        import gradio
    except ImportError as error:
        raise UserError(f"Gradio cannot be imported ({error}): {MISSING}") from None
    if tuple(int(part) for part in gradio.__version__.split(".")[:2]) < LEAST:
        raise UserError(f"Gradio {gradio.__version__} is too old: {MISSING}")


def build(desk: Desk, most_mb: int, caution: str) -> Any:
    """The page as `gradio.Blocks`."""
    import gradio as gr

    def upload(video: str | None, request: gr.Request) -> str:
        desk.claim(str(request.session_hash), Path(video) if video else None)
        return ""

    def start(
        video: str | None, face: float | None, flow: str, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        go, stop = gr.Button(interactive=True), gr.Button(interactive=False)
        try:
            job = desk.start(
                str(request.session_hash),
                Path(video) if video else None,
                face,
                "" if flow == DEFAULT_FLOW else flow,
            )
        except UserError as error:
            yield service_page.failed(error), gr.skip(), go, stop
            return
        for state in job.states():
            ended = gr.Button(interactive=job.ended), gr.Button(interactive=not job.ended)
            found = service_page.found(state.found) if state.found is not None else ""
            yield service_page.state(state), found, *ended

    def cancel(request: gr.Request) -> None:
        desk.cancel(str(request.session_hash))

    def leave(request: gr.Request) -> None:
        desk.leave(str(request.session_hash))

    with gr.Blocks(title="spotjax", analytics_enabled=False) as page:
        gr.Markdown("# Facial expressions in a video")
        gr.HTML(caution)
        video = gr.File(
            label=service_page.limit(most_mb),
            file_types=list(SUFFIXES),
            elem_id="video",
            height=150,
        )
        with gr.Row():
            face = gr.Number(
                1, label="Face", info="1 follows the largest face, 2 the next, ...",
                precision=0, minimum=1, elem_id="face",
            )  # fmt: skip
            flow = gr.Dropdown(
                [DEFAULT_FLOW, *FLOWS], value=DEFAULT_FLOW, label="Optical flow",
                info="dis takes 1 ms where tvl1 takes 300, tvl1_jax 20", elem_id="flow",
            )  # fmt: skip
        with gr.Row():
            go = gr.Button("Find expressions", variant="primary", elem_id="start")
            stop = gr.Button("Cancel", interactive=False, elem_id="cancel")
        state, found = gr.HTML(elem_id="state"), gr.HTML(elem_id="found")
        own: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        video.upload(upload, video, state, queue=False, **own)
        video.clear(upload, video, state, queue=False, **own)
        go.click(
            start, [video, face, flow], [state, found, go, stop], concurrency_limit=None, **own
        )
        stop.click(cancel, None, None, queue=False, **own)
        page.unload(leave)
    return page


def launch(page: Any, host: str, port: int, desk: Desk, most_mb: int) -> str:
    """Serve `page` in a thread of its own; returns its address.

    Other names than this machine's own are refused unless `host` is another one.  Raises UserError
    if the port cannot be had.
    """
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    names = [*NAMES] if host in NAMES else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=names), Middleware(Fence)]
    try:
        _, url, _ = page.queue().launch(
            server_name=host, server_port=port, share=False, inbrowser=False, quiet=True,
            prevent_thread_lock=True, ssr_mode=False, pwa=False, mcp_server=False,
            enable_monitoring=False, run_history=False, footer_links=[], show_error=False,
            max_file_size=most_mb * 2**20, allowed_paths=[str(desk.results)],
            css=service_page.STYLE, app_kwargs={"middleware": middleware},
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        )  # fmt: skip
    except OSError as error:
        text = f"--host {host} --port {port}: cannot be had: name another --port"
        raise UserError(text) from error
    return str(url)


@command
def main(argv: list[str]) -> int:
    """Command line.  Raises UserError for a wrong option."""
    options = _parser().parse_args(argv)
    if not 1 <= options.port <= 65535:
        raise UserError(f"--port {options.port}: a number from 1 to 65535, for example 7860")
    if options.most_mb < 1:
        raise UserError(f"--most-mb {options.most_mb}: the largest upload in MB, for example 4000")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up as Ctrl-C does
    root = Path(tempfile.mkdtemp(prefix="spotjax-"))  # only this user may look into it
    try:
        require_library(root / "uploads")
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        known = weights.load(Path(options.weights))
        out = Path(options.out).absolute() if options.out else None
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        for text in risks(options.host, options.most_mb, root):
            print(f"warning: {text}", file=sys.stderr)
        with contextlib.closing(Desk(known, root, out)) as desk:
            where = "this machine" if options.host in NAMES else "the machine that serves it"
            caution = service_page.caution(where, str(out or ""), known.notes)
            page = build(desk, options.most_mb, caution)
            try:
                url = launch(page, options.host, options.port, desk, options.most_mb)
                print(f"{url}\nopen this address in a browser; Ctrl-C ends it", flush=True)
                threading.Event().wait()
            except KeyboardInterrupt:
                print("ended: uploads and their results are deleted")
            finally:
                page.close(verbose=False)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
    return 0


def risks(host: str, most_mb: int, root: Path) -> Iterator[str]:
    """What must be said before the page is served at `host`, with its files in `root`."""
    if host not in NAMES:
        yield (
            f"--host {host}: whoever reaches this address can use the page, without a "
            "password and without encryption; leave --host out to keep it to this machine"
        )
    free = shutil.disk_usage(root).free / 1e6
    if free < 2 * most_mb:
        yield (
            f"{root}: {free:,.0f} MB are free, too few for an upload of {most_mb} MB and "
            "its results: set TMPDIR to a larger place"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spotjax.serve",
        description="A page in the browser to find facial macro- and micro-expressions in a video, "
        "as a suggestion for a human coder.  It is served to this machine alone.",
        epilog="examples:\n"
        "  pip install 'spotjax[app]'      once\n"
        "  python -m spotjax.serve\n"
        "  python -m spotjax.serve --weights softnet.spotjax.npz --out found --port 8000\n"
        "\n"
        "Then open the address that is printed, drop a video on the page, and download the files:\n"
        "tables, ELAN, BORIS, subtitles, and a page to look at.  Nothing leaves your machine.\n"
        "Uploads are deleted when the page is closed, and so are the results unless --out keeps a\n"
        "copy of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--weights",
        default=str(DEMO),
        help="file of spotjax.convert, or run directory of spotjax.train (default: a "
        "demonstration trained on rendered faces)",
    )
    parser.add_argument(
        "--out", default="", help="folder where a copy of all results stays (default: none does)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the address (7860)")
    parser.add_argument(
        "--host",
        default=HERE,
        help=f"address to serve at ({HERE}: no other machine reaches it); any other opens the page "
        "to others, without a password",
    )
    parser.add_argument(
        "--most-mb", type=int, default=4000, help="largest upload in MB (4000)", metavar="MB"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
