"""The dashboard in a real browser, over a real server: what is seen is what is in the log, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import memgang
from tests.dashboard.conftest import Dashboard, Look

HOSTILE = "<img src=x onerror=window.pwned=1> ![](http://203.0.113.1/x.png) **" + "n" * 10_000
HAS = "window.__memgang?.kept?.flock?.state().counts.events"


def act(dashboard: Dashboard, work: Callable[[memgang.Space], Awaitable[Any]]) -> Any:
    """Do something in the space that is watched. In a thread: the browser's own loop runs in this one."""
    async def inside() -> Any:
        async with memgang.open(dashboard.server.url, space=dashboard.space, agent="worker", host_tier="off") as space:
            return await work(space)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, inside()).result(60)


def begin(dashboard: Dashboard, run: str, title: str = "", state: str = "running", at: int = 0) -> None:
    """The record of a run, and its first events. ``at``: when it began, if not now."""
    async def work(space: memgang.Space) -> None:
        with space.acting_as(run=run):
            now = at or space.store.log.server_ms()
            await space.put({"id": run, "title": title, "state": state, "started": now, "ended": now if state == "done" else 0},
                            name=f"runs/{run}", kind="run", parents=())
            space.mark("run_start", title)

    act(dashboard, work)


def some(dashboard: Dashboard, run: str, values: range) -> None:
    """Some more events of it."""
    async def work(space: memgang.Space) -> None:
        with space.acting_as(agent="worker", run=run, role="map"):
            for value in values:
                await space.get(await space.put(f"{run} {value}", kind="note", pos=value / 100))

    act(dashboard, work)


def logged(dashboard: Dashboard, run: str) -> dict[str, int]:
    """The counts of a run as `memgang stats` tells them."""
    return dict(json.loads(dashboard.memgang("stats", "--run", run, "--json"))["counts"])


def test_a_real_run_is_watched_from_an_empty_space_to_its_end(dashboard: Dashboard, look: Look) -> None:
    """The page says what to run; the run appears by itself; at its end the page's counters are those of `memgang stats`."""
    look.go()
    look.page.get_by_text("memgang run --space watched").wait_for()

    document = dashboard.folder / "doc.md"
    document.write_text("".join(f"# Part {n}\n\nThe gang has {n} birds, and each of them remembers {n * n} things.\n\n" for n in range(40)))
    run = subprocess.Popen([sys.executable, "-m", "memgang", "run", str(document), "-q", "How many birds?", "--agents", "8",
                            "--llm", "simulated:latency_ms=30", "--json"], env=dashboard.env, cwd=dashboard.folder, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    look.until(f"{HAS} > 0")
    told = json.loads(run.communicate(timeout=120)[0])
    ident = told["run"]
    look.until("window.__memgang.kept.flock.state().ended === 'done'")
    whole = logged(dashboard, ident)
    look.until(f"n => {HAS} >= n", whole["events"])

    seen = look.page.evaluate("window.__memgang.kept.flock.state().totals()")
    assert seen["counts"] == whole
    for name in ("virtual", "physical", "avoided", "lost", "avoided_by_cause", "overhead_us"):
        assert seen[name] == told["savings"][name], name
    assert look.page.evaluate("window.__memgang.creates") == 1
    assert look.abroad == [] and look.errors == []
    assert whole == logged(dashboard, ident)  # it did not grow by being watched


def test_the_server_is_killed_and_started_again_and_nothing_is_missing(dashboard: Dashboard, look: Look) -> None:
    """The page says that the server is away, and goes on by itself: no gap, no duplicate, the same flock."""
    begin(dashboard, "20300101-000000-killed")
    some(dashboard, "20300101-000000-killed", range(10))
    look.go("/?run=20300101-000000-killed")
    look.until(f"{HAS} >= 20")

    dashboard.server.kill()
    look.until("window.__memgang.kept.status.connection === 'lost'")
    look.page.get_by_text("The server does not answer").wait_for()
    dashboard.server.start()
    look.until("window.__memgang.kept.status.connection === 'live'")
    some(dashboard, "20300101-000000-killed", range(10, 20))
    whole = logged(dashboard, "20300101-000000-killed")
    look.until(f"n => {HAS} >= n", whole["events"])

    assert look.counts() == whole
    assert look.page.evaluate("window.__memgang.creates") == 1


def test_the_dashboard_is_killed_and_started_again_and_nothing_is_missing(dashboard: Dashboard, look: Look) -> None:
    """The page goes on with the new process, which knows none of its passes and lists: the same flock, everything once."""
    begin(dashboard, "20300102-000000-restarted")
    some(dashboard, "20300102-000000-restarted", range(5))
    look.go("/?run=20300102-000000-restarted")
    look.until(f"{HAS} >= 10")

    dashboard.kill()
    look.until("window.__memgang.kept.status.connection === 'lost'")
    some(dashboard, "20300102-000000-restarted", range(5, 10))
    dashboard.start()
    whole = logged(dashboard, "20300102-000000-restarted")
    look.until(f"n => {HAS} >= n", whole["events"])

    assert look.counts() == whole
    assert look.page.evaluate("window.__memgang.creates") == 1


def test_a_rerun_a_theme_and_another_page_leave_the_flock_as_it_is(dashboard: Dashboard, look: Look) -> None:
    """It is made once: a run of the script, a change of theme, another page and back do not begin it again."""
    begin(dashboard, "20300103-000000-once")
    some(dashboard, "20300103-000000-once", range(5))
    page = look.go("/?run=20300103-000000-once").page
    look.until(f"{HAS} >= 10")
    page.evaluate("window.first = window.__memgang.kept.flock")

    page.locator("body").press("r")  # Streamlit's own key for a run of the script
    before = page.evaluate("window.__memgang.kept.theme")
    page.emulate_media(color_scheme="dark" if before == "light" else "light")
    look.until("was => window.__memgang.kept.theme !== was", before)
    page.get_by_role("link", name="Agents").click()
    look.until("window.__memgang.kept.owner === null")
    some(dashboard, "20300103-000000-once", range(5, 10))
    page.get_by_role("link", name="Flock").click()
    look.until("window.__memgang.kept.owner !== null")
    whole = logged(dashboard, "20300103-000000-once")
    look.until(f"n => {HAS} >= n", whole["events"])

    assert page.evaluate("[window.__memgang.creates, window.first === window.__memgang.kept.flock]") == [1, True]
    assert look.counts() == whole
    assert "run=20300103-000000-once" in page.url  # the address still says which run it is


def test_a_pass_that_has_ended_is_renewed_without_a_reload(dashboard: Dashboard, look: Look) -> None:
    """A page whose pass is refused asks the script for another, and goes on where it was."""
    begin(dashboard, "20300103-000001-renewed")
    some(dashboard, "20300103-000001-renewed", range(5))
    page = look.go("/?run=20300103-000001-renewed").page
    look.until(f"{HAS} >= 10")

    page.evaluate("""() => { const { live, data } = window.__memgang.kept;
        live.pause(); live.renew(data.url.replace(/token=[^&]*/, "token=1.0")); live.resume(); }""")
    look.until("window.__memgang.kept.data.renewed === 1")
    some(dashboard, "20300103-000001-renewed", range(5, 10))
    whole = logged(dashboard, "20300103-000001-renewed")
    look.until(f"n => {HAS} >= n", whole["events"])

    assert look.counts() == whole
    assert page.evaluate("window.__memgang.creates") == 1


def test_ten_tabs_are_served_and_a_click_opens_what_was_clicked(dashboard: Dashboard, look: Look, chromium: Any) -> None:
    """Ten pages at once get the run; a selected agent opens its page, and the address says so."""
    begin(dashboard, "20300104-000000-tabs")
    some(dashboard, "20300104-000000-tabs", range(3))
    look.go("/?run=20300104-000000-tabs")
    others = [look.page.context.new_page() for _ in range(9)]
    for tab in others:
        tab.goto(dashboard.url + "/?run=20300104-000000-tabs", wait_until="commit")
    for tab in [look.page, *others]:
        tab.wait_for_function(f"{HAS} >= 6", timeout=60_000)
    some(dashboard, "20300104-000000-tabs", range(3, 6))
    for tab in [look.page, *others]:
        tab.wait_for_function(f"{HAS} >= 12", timeout=60_000)

    look.page.evaluate("window.__memgang.kept.trigger('select', {kind: 'agent', id: 'worker'})")
    look.page.wait_for_url("**/agents?*sel=agent%3Aworker*")
    assert look.page.evaluate("window.__memgang.creates") == 1


def test_hostile_titles_and_names_are_shown_as_text(dashboard: Dashboard, look: Look) -> None:
    """Markup, Markdown and 10,000 characters in a title or name run nothing, load nothing and break nothing."""
    begin(dashboard, "20300105-000000-hostile", HOSTILE, state="done")

    async def name(space: memgang.Space) -> None:
        with space.acting_as(agent="worker", run="20300105-000000-hostile"):
            space.refused(HOSTILE)
        # By the library nobody gets such a name; whoever may write to the server does.
        keys, note = space.store.keys, json.dumps({"run": "20300105-000000-hostile", "role": HOSTILE, "kind": HOSTILE, "bytes": 5})
        for agent in (HOSTILE, "<script>window.pwned=1</script>"):
            seq = await space.store.wire.call("HINCRBY", keys.at(0, "u"), "seq", 1)
            await space.store.wire.call("XADD", keys.at(0, "a"), f"{seq}-0", "e", "put", "at", space.store.log.server_ms(),
                                        "who", f"u/{agent}", "id", "<b>" * 3000, "x", "put new", "n", note)

    act(dashboard, name)
    page = look.go("/?run=20300105-000000-hostile").page
    look.until(f"{HAS} >= 4")
    page.get_by_text("<img src=x onerror=window.pwned=1>").first.wait_for()

    assert page.evaluate("[window.pwned, document.querySelectorAll('img[src=x]').length]") == [None, 0]
    assert look.abroad == [] and look.errors == []


def test_another_run_is_chosen_at_the_side(dashboard: Dashboard, look: Look) -> None:
    """Those under way are listed first, with a mark; choosing one shows it, and the address says which."""
    begin(dashboard, "20300108-000000-first", "the first one", state="done")
    begin(dashboard, "20300108-000001-second", "the second one")
    some(dashboard, "20300108-000001-second", range(3))
    page = look.go("/?run=20300108-000000-first").page
    look.until(f"{HAS} > 0")

    page.get_by_role("combobox", name="Run").click()
    options = page.get_by_role("listbox").get_by_role("option")
    options.first.wait_for()
    told = options.all_inner_texts()
    # What the app lists may be a second old, and a list that is open is not drawn again: opened until the run is in it.
    for _ in range(20):
        if any("the second one" in text for text in told):
            break
        page.keyboard.press("Escape")
        options.first.wait_for(state="detached")
        page.wait_for_timeout(500)
        page.get_by_role("combobox", name="Run").click()
        options.first.wait_for()
        told = options.all_inner_texts()
    assert told[0].startswith("●") and "the second one" in told[0]
    assert [text.startswith("●") for text in told] == sorted((text.startswith("●") for text in told), reverse=True)
    options.filter(has_text="the second one").click()
    look.until("window.__memgang.kept?.run === '20300108-000001-second'")
    look.until(f"{HAS} >= 6")

    page.wait_for_url("**/?run=20300108-000001-second")
    assert page.evaluate("window.__memgang.creates") == 2


@pytest.mark.parametrize("chosen", ["20300111-000000-one", "20300111-000000-two"])
def test_of_two_runs_of_the_same_title_and_minute_the_chosen_one_stays(dashboard: Dashboard, look: Look, chosen: str) -> None:
    """Who does the same work twice has two runs that are called alike; a page of the one leads to pages of the same one."""
    for run in ("20300111-000000-one", "20300111-000000-two"):
        begin(dashboard, run, "twins", at=1_893_456_000_000)
    page = look.go(f"/?run={chosen}").page
    # Both are in the list then: it has the title, and the other one was written before or together with it.
    look.until("document.querySelector('[data-testid=stSidebar] input')?.value.includes('twins')")

    page.get_by_role("link", name="Savings").click()
    page.wait_for_url("**/savings?run=*")
    assert page.url.endswith(f"run={chosen}")


def test_who_gives_the_token_is_let_in_with_all_sockets(dashboard: Dashboard, look: Look, tmp_path: Path) -> None:
    """A dashboard with a token shows a form and nothing else; then the browser's cookie opens pages and sockets alike."""
    begin(dashboard, "20300107-000000-token", state="done")
    (tmp_path / "token").write_text("s" * 40 + "\n")
    other = Dashboard(dashboard.server, dashboard.space, tmp_path)
    other.start("--token-file", str(tmp_path / "token"))
    try:
        page = look.page
        page.goto(other.url + "/?run=20300107-000000-token")
        assert page.locator("script").count() == 0
        page.get_by_label("Token of this dashboard").fill("wrong")
        page.get_by_role("button").click()
        page.get_by_text("not the token").wait_for()
        page.get_by_label("Token of this dashboard").fill("s" * 40)
        page.get_by_role("button").click()
        look.until(f"{HAS} > 0")
    finally:
        other.kill()


@pytest.mark.parametrize("path", ["/", "/?run=none-such"])
def test_a_page_without_a_run_says_so(dashboard: Dashboard, look: Look, path: str) -> None:
    """A link to a run that is not there says so, and another can be chosen; without one in the address the first is shown."""
    begin(dashboard, "20300106-000000-there", "the one that is there", state="done")
    look.go(path)
    if path == "/":
        look.until(f"{HAS} > 0")
    else:
        look.until("window.__memgang?.kept?.status?.connection === 'empty'")
        look.page.get_by_text("There is no such run").first.wait_for()
        look.page.get_by_role("combobox", name="Run").click()
        look.page.get_by_role("option").filter(has_text="the one that is there").click()
        look.until(f"{HAS} > 0")
    assert look.errors == []


def test_a_link_to_a_moment_of_a_live_run_says_so_and_leads_out_of_it(dashboard: Dashboard, look: Look) -> None:
    """`t` and `sel` of the address hold for a run that goes on, too; each page says that it shows a past moment, until told not to."""
    run = "20300106-000001-moment"
    begin(dashboard, run)
    some(dashboard, run, range(5))
    page = look.go(f"/?run={run}&t=1&sel=agent:worker").page
    look.until("window.__memgang?.kept?.opened")
    look.until("window.__memgang.kept.flock.state().counts.events < 10")  # of all that have come
    assert page.locator(".mg-badge").text_content() == "looking back"
    page.get_by_text("The address opens this run at").wait_for()

    page.get_by_role("link", name="Agents").click()
    page.get_by_text("As of 0.0 s after it began").wait_for()
    page.get_by_role("button", name="Show all of it").click()
    page.get_by_text("As of 0.0 s").wait_for(state="detached")
    page.wait_for_url(lambda url: "&t=" not in url)
    page.get_by_role("link", name="Flock").click()
    look.until("window.__memgang.kept.owner !== null")
    look.until("window.__memgang.kept.box.querySelector('.mg-badge').textContent === 'live'")
    look.until(f"n => {HAS} >= n", logged(dashboard, run)["events"])
    assert page.evaluate("window.__memgang.creates") == 1 and look.errors == []


def test_a_run_that_comes_along_can_be_played_where_nothing_has_run(look: Look) -> None:
    """The page of an empty space leads to it; it plays under the dashboard's own policy."""
    look.go("/mg/demo").page.wait_for_selector("body[data-state=ready]")
    assert "NIST SP 800-63-3" in look.page.inner_text("body") and not look.errors and not look.abroad
