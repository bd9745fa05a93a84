"""Who may come in: Host, Origin, token and pass, on every route, pages and sockets, Streamlit's and ours."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("streamlit", reason="needs memgang[dashboard]")

from websockets import exceptions
from websockets.sync import client

from memgang.doors.dashboard.guard import COOKIE, ENTER, Guard
from memgang.doors.dashboard.passes import Passes
from memgang.doors.dashboard.serving import Place
from memgang.errors import ConfigError
from tests.dashboard.conftest import SRC, Dashboard

PATHS = ("/", "/agents", "/mg/web/live.js", "/mg/demo", "/mg/enter", "/_stcore/health", "/_stcore/host-config")
SOCKETS = ("/mg/live?run=r&token=t", "/_stcore/stream")
TOKEN = "t" * 40


@pytest.mark.catalogue("D7")
@pytest.mark.parametrize("path", PATHS)
def test_a_foreign_host_or_origin_is_refused_on_every_route(dashboard: Dashboard, path: str) -> None:
    """A page that was led here by DNS, and a page from elsewhere, get nothing; nor does a request without one Host."""
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Host": "evil@127.0.0.1"}, {"Host": ""},
                    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://["},
                    {"Origin": f"http://127.0.0.1:{dashboard.port + 1}"}):
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            assert httpx.request(method, dashboard.url + path, headers=headers).status_code == 403, (method, headers)
    assert httpx.get(dashboard.url + path, headers={"Origin": dashboard.url}).status_code != 403


@pytest.mark.catalogue("D7")
@pytest.mark.parametrize("path", SOCKETS)
def test_a_foreign_origin_or_host_opens_no_socket(dashboard: Dashboard, path: str) -> None:
    """Not the flock's, and not Streamlit's either, through which a page could do all a person can."""
    url = dashboard.url.replace("http", "ws") + path
    for headers, origin in (({}, "http://evil.example"), ({}, "null"), ({"Host": "evil.example"}, None)):
        with pytest.raises(exceptions.InvalidStatus) as refused:
            client.connect(url, origin=origin, additional_headers=headers).close()
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/", SOCKETS[0]])
def test_a_head_without_end_is_refused(dashboard: Dashboard, path: str) -> None:
    """Before anything of it is looked at: it could go on until there is no memory left."""
    with socket.create_connection(("127.0.0.1", dashboard.port), timeout=30) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{dashboard.port}\r\nX: ".encode() + b"y" * 200_000)
        assert wire.recv(12) == b"HTTP/1.1 431"


@pytest.mark.catalogue("D8")
@pytest.mark.parametrize("token", ["", "x", "99999999999." + "0" * 64, Passes().of("r"), "ü" * 50, "a" * 5000])
def test_a_wrong_pass_is_refused_on_every_route_that_wants_one(dashboard: Dashboard, token: str) -> None:
    """The socket says why by its close code, so that the page can ask for a new pass; nothing is sent before."""
    url = httpx.URL(dashboard.url.replace("http", "ws") + "/mg/live", params={"run": "r", "token": token})
    with client.connect(str(url)) as socket, pytest.raises(exceptions.ConnectionClosed) as closed:
        socket.recv(timeout=30)
    assert closed.value.rcvd.code == 4401


def test_no_pass_gets_into_what_the_server_prints(dashboard: Dashboard) -> None:
    """The address of a socket holds its pass, and is not logged."""
    test_a_wrong_pass_is_refused_on_every_route_that_wants_one(dashboard, "secret-in-the-address")
    assert "memgang dashboard on" in dashboard.said() and "secret-in-the-address" not in dashboard.said()


def test_pages_say_that_nothing_leaves_the_host(dashboard: Dashboard) -> None:
    """Whatever got into a page could load nothing from elsewhere, nor be shown inside another page."""
    headers = httpx.get(dashboard.url).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


# ── the token of a dashboard beyond loopback ──────────────────────────────────────────────────


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"within"})


def asking(guard: Guard, address: str = "10.0.0.1") -> httpx.AsyncClient:
    """Somebody at this address."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(guard, client=(address, 1)), base_url="http://dash.example:8330")


async def test_a_dashboard_with_a_token_lets_in_who_gives_it_once() -> None:
    """Without it there is a form; with it a cookie, which holds no token, opens everything until it ends."""
    now = [1_000_000.0]
    guard = Guard(_app, names=["dash.example"], token=TOKEN, clock=lambda: now[0])
    async with asking(guard) as person:
        refused = await person.get("/", headers={"Accept": "text/html"})
        assert refused.status_code == 401 and "<form" in refused.text
        assert (await person.get("/mg/demo")).status_code == 401

        entered = await person.post(ENTER, data={"token": TOKEN + "\n"})
        assert entered.status_code == 303 and TOKEN not in str(entered.headers)
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=lax" in cookie
        assert (await person.get("/")).text == "within"

        now[0] += 13 * 3600
        person.cookies.set(f"{COOKIE}_8330", entered.cookies[f"{COOKIE}_8330"])  # as a browser that does not let go of it
        assert (await person.get("/")).status_code == 401


@pytest.mark.parametrize("cookie", ["", ".", "9999999999.", "9999999999." + "0" * 64, "x.y", "9" * 30 + ".a"])
async def test_a_forged_cookie_opens_nothing(cookie: str) -> None:
    """A cookie that we have not signed is none."""
    async with asking(Guard(_app, names=["dash.example"], token=TOKEN)) as person:
        assert (await person.get("/", headers={"Cookie": f"{COOKIE}_8330={cookie}"})).status_code == 401


async def test_whoever_guesses_has_to_wait() -> None:
    """After five wrong tokens in a minute an address is told to wait; nobody is locked out by it: behind a proxy all have one address."""
    now = [0.0]
    guard = Guard(_app, names=["dash.example"], token=TOKEN, clock=lambda: now[0])
    async with asking(guard) as guesser, asking(guard) as colleague, asking(guard, "10.0.0.2") as other:
        for _ in range(5):
            assert (await guesser.post(ENTER, data={"token": "wrong"})).status_code == 401
        assert (await guesser.post(ENTER, data={"token": "wrong"})).status_code == 429
        assert (await other.post(ENTER, data={"token": "wrong"})).status_code == 401
        assert (await colleague.post(ENTER, data={"token": TOKEN})).status_code == 303
        now[0] += 61
        assert (await guesser.post(ENTER, data={"token": "wrong"})).status_code == 401


async def test_a_link_leads_to_what_it_names_also_by_way_of_the_form() -> None:
    """The address asked for is kept through the form, wrong tokens too; none that leads elsewhere is."""
    guard, wanted = Guard(_app, names=["dash.example"], token=TOKEN), "/agents?run=r&sel=agent:a%22b"
    async with asking(guard) as person:
        form = (await person.get(wanted, headers={"Accept": "text/html"})).text
        assert 'name="next" value="/agents?run=r&amp;sel=agent:a%22b"' in form
        again = await person.post(ENTER, data={"token": "wrong", "next": wanted})
        assert 'name="next" value="/agents?run=r&amp;sel=agent:a%22b"' in again.text
        assert (await person.post(ENTER, data={"token": TOKEN, "next": wanted})).headers["location"] == wanted
        for other in ("//evil.example", "https://evil.example/", "/\\evil.example", "/\t/evil.example", "", ENTER, "/" + "a" * 5000, "/ü"):
            assert (await person.post(ENTER, data={"token": TOKEN, "next": other})).headers["location"] == "/", other


async def test_dashboards_on_two_ports_of_a_host_have_cookies_of_their_own() -> None:
    """Browsers send cookies to all ports of a host: entering at one must not put out the other."""
    async with asking(Guard(_app, names=["dash.example"], token=TOKEN)) as person:
        one = await person.post(ENTER, data={"token": TOKEN})
        other = await person.post(f"http://dash.example:8331{ENTER}", data={"token": TOKEN})
        assert set(one.cookies) & set(other.cookies) == set()
        assert (await person.get("/")).text == (await person.get("http://dash.example:8331/")).text == "within"


@pytest.mark.parametrize(("words", "told"), [
    ({"host": "0.0.0.0"}, "--token-file"), ({"host": "::"}, "--token-file"), ({"host": "192.0.2.1"}, "--token-file"),
    ({"host": "dash.example"}, "--token-file"), ({"token": "short"}, "32"), ({"allow_write": True}, "--token-file"),
])
def test_what_others_can_reach_is_refused_without_a_token(words: dict[str, Any], told: str) -> None:
    """An address beyond this machine, a short token, and writing without one: the error names the option that is missing."""
    with pytest.raises(ConfigError, match=told):
        Place(**words)


def test_the_command_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    """No traceback, and nothing is served."""
    env = {**os.environ, "PYTHONPATH": str(SRC), "MEMGANG_STATE_DIR": str(tmp_path / "s"), "MEMGANG_RUNTIME_DIR": str(tmp_path / "r")}
    done = subprocess.run([sys.executable, "-m", "memgang", "dashboard", "--host", "0.0.0.0", "--no-open"], env=env, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("memgang: 0.0.0.0 can be reached from other machines") and "Traceback" not in done.stderr
