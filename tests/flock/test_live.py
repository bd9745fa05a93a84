"""The page's connection to a live run: it comes back, goes on where it was, and rests while nobody looks."""

# ruff: noqa: E501  the scripts of the page are lines of their own

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.flock.conftest import Page

# A WebSocket and a clock that the test holds.
SCENE = """async () => {
  const { connect } = await import("/live.js");
  window.sockets = []; window.told = []; window.waits = []; window.due = [];
  window.setTimeout = (act, ms) => { waits.push(ms); due.push(act); return due.length; };
  window.clearTimeout = (number) => { if (number) due[number - 1] = null; };
  window.fire = () => { const acts = due.splice(0); acts.forEach((act) => act && act()); };
  class Socket { constructor(url) { this.url = url; sockets.push(this); } close() { this.closed = true; } }
  window.line = connect({ url: "http://127.0.0.1/mg/live?run=r&token=t", WebSocket: Socket,
    onHeader: (h) => told.push(["header", h]), onRecords: (r) => told.push(["records", r.length]), onStatus: (s) => told.push([s.connection, s.text]) });
  window.last = () => sockets.at(-1);
  window.send = (value) => last().onmessage({ data: typeof value === "string" ? value : JSON.stringify(value) });
  window.look = (hidden) => { Object.defineProperty(document, "hidden", { value: hidden, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); };
}"""


@pytest.fixture
def scene(open_page: Callable[..., Page]) -> Iterator[Page]:
    page = open_page()
    page.js("() => { window.kept = [setTimeout, clearTimeout]; }")
    page.js(SCENE)
    yield page
    page.js("() => { line.close(); [window.setTimeout, window.clearTimeout] = kept; delete document.hidden; }")


def asked(page: Page) -> dict[str, Any]:
    return page.js("Object.fromEntries(new URL(last().url).searchParams)")  # type: ignore[no-any-return]


def test_it_goes_on_where_it_was_after_the_connection_broke(scene: Page) -> None:
    """The next connection asks from the record after the last, in the epoch of the server's list."""
    assert scene.js("last().url").startswith("ws://") and asked(scene) == {"run": "r", "token": "t", "from": "0"}
    scene.js("() => { send({ header: { run: 'r' }, epoch: 'e1', from: 0 }); send({ records: [{ id: 'a' }], next: 41 }); send('not json'); last().onclose({ code: 1006 }); fire(); }")
    assert asked(scene) == {"run": "r", "token": "t", "from": "41", "epoch": "e1"}
    assert [kind for kind, _ in scene.js("told")] == ["header", "live", "records", "lost"]


def test_a_server_that_was_started_anew_is_read_from_the_beginning(scene: Page) -> None:
    """Another epoch is another list: the place is counted as the server says."""
    scene.js("() => { send({ header: {}, epoch: 'e1', from: 0 }); send({ records: [{}], next: 41 }); last().onclose({ code: 1006 }); fire(); }")
    scene.js("() => { send({ header: {}, epoch: 'e2', from: 0 }); last().onclose({ code: 1006 }); fire(); }")
    assert asked(scene) == {"run": "r", "token": "t", "from": "0", "epoch": "e2"}


def test_a_run_that_goes_on_no_more_is_said_to_have_ended(scene: Page) -> None:
    """One that was killed has no end in its header: the server says that nothing is expected any more. It also says what time it is."""
    scene.js("() => { told.length = 0; send({ header: { run: 'r' }, epoch: 'e1', from: 0, over: true }); }")
    assert [what for what, _ in scene.js("told")] == ["header", "ended"]
    scene.js("""async () => {
      const { connect } = await import("/live.js"); line.close(); told.length = 0;
      window.line = connect({ url: "http://127.0.0.1/mg/live", WebSocket: last().constructor, onHeader: (h, upto, now) => told.push([upto, now]) });
      send({ header: {}, epoch: "e1", from: 0, upto: 3, now: 9 }); send({ header: {}, epoch: "e1", from: 0 });
    }""")
    assert scene.js("told") == [[3, 9], [0, 0]]


def test_it_waits_longer_each_time_up_to_eight_seconds(scene: Page) -> None:
    """From half a second on, doubled, with chance in it; a message begins anew."""
    scene.js("() => { for (let i = 0; i < 8; i++) { last().onclose({ code: 1006 }); fire(); } }")
    for wait, ms in zip(scene.js("waits"), (500, 1000, 2000, 4000, 8000, 8000, 8000, 8000), strict=True):
        assert ms * 0.75 <= wait <= ms * 1.25
    scene.js("() => { send({ header: {}, epoch: 'e', from: 0 }); last().onclose({ code: 1006 }); }")
    assert scene.js("waits.at(-1)") <= 625


@pytest.mark.parametrize("code", [4401, 4403])
def test_a_refusal_is_told_and_not_tried_again(scene: Page, code: int) -> None:
    """A bad token that nobody renews, and a foreign page, stay refused."""
    scene.js("(code) => { last().onclose({ code, reason: '' }); fire(); }", code)
    assert scene.js("sockets.length") == 1
    kind, text = scene.js("told.at(-1)")
    assert kind == "refused" and text.endswith(".")


def test_a_page_nobody_looks_at_is_not_connected(scene: Page) -> None:
    """Hidden, it closes; looked at again, it opens and goes on; closed, it stays closed."""
    scene.js("() => { send({ header: {}, epoch: 'e1', from: 0 }); send({ records: [{}], next: 7 }); look(true); }")
    assert scene.js("sockets[0].closed") and scene.js("due.filter(Boolean).length") == 0
    scene.js("look(false)")
    assert scene.js("sockets.length") == 2 and asked(scene)["from"] == "7"
    scene.js("() => { line.close(); look(true); look(false); }")
    assert scene.js("sockets.length") == 2


def test_a_run_that_is_not_there_is_asked_for_again(scene: Page) -> None:
    """It may begin, or its server be back with an older log: that is told, and not given up."""
    scene.js("() => { last().onclose({ code: 4404 }); fire(); }")
    assert scene.js("sockets.length") == 2
    assert scene.js("told.at(-1)")[0] == "empty"


def test_a_token_that_has_ended_is_renewed_by_the_page(scene: Page) -> None:
    """Whoever embeds it is asked for another, and then it goes on where it was; nothing is tried before."""
    scene.js("""async () => {
      const { connect } = await import("/live.js"); line.close(); told.length = 0;
      window.line = connect({ url: "http://127.0.0.1/mg/live?run=r&token=old", WebSocket: last().constructor, onDenied: () => told.push("denied") });
      send({ header: {}, epoch: "e1", from: 0 }); send({ records: [{}], next: 7 }); last().onclose({ code: 4401 }); fire(); look(false);
    }""")
    count = scene.js("sockets.length")
    assert scene.js("told") == ["denied"]
    scene.js("line.renew('http://127.0.0.1/mg/live?run=r&token=new')")
    assert scene.js("sockets.length") == count + 1
    assert asked(scene) == {"run": "r", "token": "new", "from": "7", "epoch": "e1"}


def test_what_was_shown_is_void_when_the_same_process_has_another_list(scene: Page) -> None:
    """Its server has lost the log and gives ids anew; another list of the same process, or of another, has the ids of the same log."""
    scene.js("""async () => {
      const { connect } = await import("/live.js"); line.close(); told.length = 0;
      window.line = connect({ url: "http://127.0.0.1/mg/live?run=r&token=t", WebSocket: last().constructor, onReset: () => told.push("void") });
      for (const epoch of ["a-0-1", "b-0-1", "b-0-2", "b-1-3", "c-0-1"]) { send({ header: {}, epoch, from: 0 }); told.push(epoch); }
    }""")
    assert scene.js("told") == ["a-0-1", "b-0-1", "b-0-2", "void", "b-1-3", "c-0-1"]


def test_it_rests_while_another_page_is_shown(scene: Page) -> None:
    """Paused it is closed and stays so, also when the tab is looked at; resumed it goes on where it was."""
    scene.js("() => { send({ header: {}, epoch: 'e1', from: 0 }); send({ records: [{}], next: 7 }); line.pause(); look(false); fire(); }")
    assert scene.js("sockets[0].closed") and scene.js("sockets.length") == 1
    scene.js("line.resume()")
    assert scene.js("sockets.length") == 2 and asked(scene)["from"] == "7"
