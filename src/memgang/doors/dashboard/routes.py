"""Routes of ours on the dashboard's port, below /mg/. Who gets here has passed the guard; each run wants its pass besides.

    WebSocket /mg/live?run=RUN&token=PASS&from=N&epoch=E        the header, then records from place N on, while they come
    GET       /mg/demo                                          a page that plays the run that comes with MemGang
    GET       /mg/web/...                                       the scripts of the flock, which are the same for everybody

Frames to a viewer, JSON as text: {"header", "epoch", "from", "upto", "over", "now"} first and when the header changes ("over": nothing
more is expected; "now": ms since the run began by the server's clock, 0 where it is over); {"records", "next"} at most every 50 ms;
{"status": {"connection", "text"}} when the server goes away or comes back. Close codes: 4401 the pass is wrong or has ended, 4404
there is no such run, 1013 too many viewers.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

import memgang.flock
from memgang.doors.dashboard.live import Reel
from memgang.doors.dashboard.watching import Watching
from memgang.errors import StoreUnavailable
from memgang.flock import tape as tapes
from memgang.flock.page import page as one_page

BATCH_S = 0.05
WEB = Path(memgang.flock.__file__).with_name("web")
RECORDS_MAX = 2000  # in one frame
VIEWERS_MAX = 500
DENIED, NO_RUN, BUSY = 4401, 4404, 1013


def routes(watching: Watching) -> list[BaseRoute]:
    """The routes, for what is being watched."""
    viewers = 0

    async def live(socket: WebSocket) -> None:
        nonlocal viewers
        asked = socket.query_params
        run = asked.get("run", "")
        await socket.accept()  # a close code reaches the page only so
        if not watching.passes.opens(asked.get("token", ""), run):
            await socket.close(DENIED)
        elif viewers >= VIEWERS_MAX:
            await socket.close(BUSY)
        else:
            viewers += 1
            try:
                await _show(watching, socket, run, asked.get("epoch", ""), asked.get("from", "0"))
            finally:
                viewers -= 1

    async def demo(_: Request) -> Response:
        return HTMLResponse(await asyncio.to_thread(lambda: one_page(tapes.demo())))

    return [WebSocketRoute("/mg/live", live), Route("/mg/demo", demo, methods=["GET"]), Mount("/mg/web", StaticFiles(directory=WEB))]


async def _show(watching: Watching, socket: WebSocket, run: str, epoch: str, place: str) -> None:
    """Send until the viewer leaves, which is all that can be heard of it."""
    sending = asyncio.create_task(_send(watching, socket, run, epoch, place))
    hearing = asyncio.create_task(_left(socket))
    try:
        await asyncio.wait((sending, hearing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, hearing):
            task.cancel()
        for ended in await asyncio.gather(sending, hearing, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, WebSocketDisconnect | RuntimeError | OSError):
                raise ended


async def _left(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive()


async def _send(watching: Watching, socket: WebSocket, run: str, epoch: str, place: str) -> None:
    while True:
        try:
            live = await watching.live()
            async with live.watching(run) as reel:
                await _play(watching, socket, reel, epoch, int(place) if place.isdigit() and len(place) < 16 else 0)
            return
        except StoreUnavailable as error:  # it was away from the start
            await _frame(socket, status={"connection": "lost", "text": str(error)})
            await asyncio.sleep(1.0)


async def _play(watching: Watching, socket: WebSocket, reel: Reel, epoch: str, place: int) -> None:
    live = await watching.live()
    edition, away = -1, ""
    while True:
        news = reel.news
        if live.away != away:
            away = live.away
            await _frame(socket, status={"connection": "lost" if away else "live" if _goes_on(watching, reel) else "ended", "text": away})
        if reel.whole:
            if not reel.known and not reel.lines and reel.header.run != tapes.ALL:
                await socket.close(NO_RUN)
                return
            if epoch != reel.epoch or place > reel.upto:
                epoch, place, edition = reel.epoch, reel.first, -1
            place = max(place, reel.first)  # what a slow viewer has not had may be gone, where the whole space is watched
            if edition != reel.edition:
                edition = reel.edition
                over = not _goes_on(watching, reel)
                # For the clock of the page: the newest record may be from long ago.
                now = max(0, watching.server_ms() - reel.header.began) if reel.header.began and not over else 0
                await _frame(socket, header=watching.standing(reel.header), epoch=epoch, **{"from": place}, upto=reel.upto, over=over,
                             now=now)
                continue  # the list may have been begun anew meanwhile
            if place < reel.upto:
                some = reel.lines[place - reel.first:place - reel.first + RECORDS_MAX]
                place += len(some)
                # Here a slow viewer holds itself up: what it has not taken is not sent, and is in no queue of its own.
                await socket.send_text(f'{{"records":[{",".join(some)}],"next":{place}}}')
                if place == reel.upto:
                    await asyncio.sleep(BATCH_S)  # what comes meanwhile travels together
                continue
        await news.wait()


def _goes_on(watching: Watching, reel: Reel) -> bool:
    return not reel.header.ended and watching.under_way(reel.header)


async def _frame(socket: WebSocket, **words: Any) -> None:
    await socket.send_text(msgspec.json.encode(words).decode())
