"""A local page on which photos are dropped, and explained."""

import functools
import hmac
import os
import socket
import tempfile
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import unlir_jax
from unlir_jax import saliency
from unlir_jax.core import extras
from unlir_jax.data import image_files
from unlir_jax.explanation import desk, explain, explainers, wishes
from unlir_jax.models import factories
from unlir_jax.models.pretrained import Pretrained
from unlir_jax.report import html
from unlir_jax.split import scores

with extras.needed("serve"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

LOOPBACK = "127.0.0.1"
MOST_BYTES = 64 << 20
MOST_NETWORKS = 2
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


def work(
    wish: wishes.Wish, load: Callable[..., Pretrained] = factories.load
) -> desk.Work:
    """Make what explains one photo, see `explain.run`."""

    def explain_photo(photo: Path, report: Path, progress: desk.Progress) -> None:
        outcome = explain.run(
            [str(photo / wish.name)],
            report,
            **wish.settings,
            load=load,
            progress=progress,
        )
        for failure in outcome.failed:
            raise ValueError(failure["error"])

    return explain_photo


def application(
    jobs: desk.Desk,
    networks: Sequence[wishes.Network],
    token: str,
    work: Callable[[wishes.Wish], desk.Work] = work,
) -> Starlette:
    """Make the page and what it calls.

    All addresses begin with the token; any other gives 404, and so does a wrong one. A
    name of the host that is not this machine's is refused, and so is a page from
    elsewhere that sends a photo.

    Args:
        jobs: Where photos wait.
        networks: Networks that can be chosen.
        token: Secret in the address.
        work: Makes what is done with a photo.
    """
    page = _page(networks)
    handlers = {
        "/": (_guarded(token, functools.partial(_show_page, page)), ["GET"]),
        "/jobs": (
            _guarded(token, functools.partial(_submit, jobs, networks, work)),
            ["POST"],
        ),
        "/jobs/{job}": (
            _guarded(token, functools.partial(_job, jobs)),
            ["GET", "DELETE"],
        ),
        "/reports/{job}/{file}": (
            _guarded(token, functools.partial(_file, jobs)),
            ["GET"],
        ),
    }
    return Starlette(
        routes=[
            Route(f"/{{token}}{path}", handle, methods=methods)
            for path, (handle, methods) in handlers.items()
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
        ],
    )


def serve(
    networks: Sequence[wishes.Network],
    token: str,
    *,
    port: int = 0,
    folder: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page to this machine alone, until it is interrupted.

    Args:
        networks: Networks that can be chosen.
        token: Secret in the address.
        port: Port to listen at; 0 for one that is free.
        folder: Where reports stay; without it they are removed at the end.
        say: Told the address, once the page can be opened.

    Raises:
        ValueError: The port cannot be listened at, or the folder is in use.
    """
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary,
        socket.socket() as listening,
    ):
        place = Path(temporary) if folder is None else _empty(Path(folder))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, port))
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"`port`={port} cannot be listened at ({error}); expected a free one "
                "of 1 to 65535, or 0 to choose one."
            ) from error
        jobs = desk.opened(place)
        # The next photo finds the network, and all that was compiled for it.
        load = functools.lru_cache(MOST_NETWORKS)(factories.load)
        explain_by = functools.partial(work, load=load)
        page = application(jobs, networks, token, explain_by)
        listening.listen()
        say(f"http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/")
        try:
            program(page).run(sockets=[listening])
        finally:
            jobs.close()


def program(page: Starlette) -> uvicorn.Server:
    """Make what answers requests, and writes no log of them."""
    settings = uvicorn.Config(
        page,
        **{"log_level": "error", "access_log": False, "lifespan": "off"},
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return uvicorn.Server(settings)


def _empty(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise ValueError(
            f"`output`={str(folder)!r} cannot be used ({error.strerror}); expected a "
            "new or empty folder."
        ) from error
    if used:
        raise ValueError(
            f"`output`={str(folder)!r} is not empty; expected a new or empty folder."
        )
    return folder


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(token: str, handle: Handler) -> Handler:
    """Let only those in who know the token, and no page from elsewhere."""

    async def guarded(request: Request) -> Response:
        given = request.path_params["token"].encode()
        if not hmac.compare_digest(given, token.encode()):
            return Response(status_code=404, headers=HEADERS)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host')}":
            return _refusal("This page was not made here.", 403)
        response = await handle(request)
        response.headers.update(HEADERS)
        return response

    return guarded


def _refusal(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status, headers=HEADERS)


async def _show_page(page: str, request: Request) -> Response:
    return HTMLResponse(page)


async def _submit(
    jobs: desk.Desk,
    networks: Sequence[wishes.Network],
    work: Callable[[wishes.Wish], desk.Work],
    request: Request,
) -> Response:
    try:
        wish = wishes.read(dict(request.query_params), networks)
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > MOST_BYTES:
                return _refusal(
                    f"The photo has more than {MOST_BYTES >> 20} MiB; expected less.",
                    413,
                )
        if not content:
            raise ValueError("The photo is empty; expected an image file.")
        asked = wish.name, bytes(content), work(wish)
        job = await run_in_threadpool(jobs.submit, *asked)
    except ValueError as error:
        return _refusal(str(error), 400)
    except ClientDisconnect:
        return Response(status_code=400)
    return JSONResponse({"job": job}, 201)


async def _job(jobs: desk.Desk, request: Request) -> Response:
    job = request.path_params["job"]
    if request.method == "DELETE":
        jobs.cancel(job)
    found = jobs.look(job)
    if found is None:
        return _refusal("There is no such job.", 404)
    return JSONResponse(found)


async def _file(jobs: desk.Desk, request: Request) -> Response:
    folder = jobs.report(request.path_params["job"])
    asked = urllib.parse.unquote(request.path_params["file"])
    # Names are compared with those that are there: none leads out of the folder.
    if folder is None or asked not in os.listdir(folder):
        return _refusal("There is no such file.", 404)
    return FileResponse(folder / asked)


def _page(networks: Sequence[wishes.Network]) -> str:
    families: dict[str, list[tuple[str, saliency.ExplainerSpec]]] = {}
    for name, spec in saliency.SPECS.items():
        families.setdefault(spec.family, []).append((name, spec))
    return html.render(
        "serve.html",
        title="What did the network look at?",
        command="unlir serve",
        version=unlir_jax.__version__,
        networks=networks,
        families={
            family: members
            for family, members in families.items()
            if family != "controls"
        },
        chosen=explainers.DEFAULT,
        parts=explainers.PARTS,
        scores=scores.NAMED,
        suffixes=",".join(sorted(image_files.SUFFIXES)),
        most=MOST_BYTES,
        script=html.script("serve.js"),
    )
