// The connection of a page to a run that goes on. It comes back by itself, goes on where it was, and rests while nobody looks.
//
// It asks for what it has not had: `from`, a place in the list of the server's that `epoch` names: process, how often that process found
// the log lost, number of the list. Where the server has another list everything comes again, and whoever takes the records drops ids it
// has had.

const FIRST_MS = 500, LAST_MS = 8000;
const DENIED = 4401;
// Closed by the server for good: trying again would be refused again.
const REFUSALS = { [DENIED]: "This page may not look any more: load it again.", 4403: "This page was opened from another site." };
const EMPTY = { 4404: "There is no such run (any more)." };

// `url`: with run and token, as seen from this page. `onHeader(header, upto, now)`: there are `upto` records, and it is
// `now` ms since the run began by the server's clock (0: it is over). `onRecords(records, next)`.
// `onReset()`: what was shown is void, the same ids will come with other records. `onStatus({connection, text})`: live, lost, ended,
// empty, refused. `onDenied()`: the token has ended; `renew(url)` goes on with another.
export function connect({ url, from = 0, onHeader = () => {}, onRecords = () => {}, onReset = () => {}, onStatus = () => {},
  onDenied = null, WebSocket = globalThis.WebSocket }) {
  const page = globalThis.document;
  let place = from, epoch = "", socket = null, timer = 0, wait = FIRST_MS, over = false, paused = false, denied = false;

  const address = () => {
    const whole = new URL(url, globalThis.location?.href);
    whole.protocol = whole.protocol.replace("http", "ws");
    whole.searchParams.set("from", String(place));
    if (epoch) whole.searchParams.set("epoch", epoch);
    return whole.href;
  };

  const open = () => {
    clearTimeout(timer);
    if (over || paused || denied || socket || page?.hidden) return;
    const mine = socket = new WebSocket(address());
    mine.onmessage = ({ data }) => {
      if (mine !== socket) return;
      let told;
      try {
        told = JSON.parse(data);
      } catch {
        return; // not ours
      }
      take(told);
    };
    mine.onclose = ({ code }) => { if (mine === socket) lost(code); };
  };

  const take = (told) => {
    wait = FIRST_MS;
    if (told.header) {
      if (told.epoch !== epoch) {
        // The server has lost the log, and gives ids of what is gone to others. Any other list has the ids of this one.
        const [process, lost] = told.epoch.split("-"), [formerly, lostThen] = epoch.split("-");
        if (process === formerly && lost !== lostThen) onReset();
        epoch = told.epoch;
        place = told.from ?? 0;
      }
      onHeader(told.header, told.upto ?? 0, told.now ?? 0);
      onStatus({ connection: told.header.ended || told.over ? "ended" : "live", text: "" });
    }
    if (told.status) onStatus(told.status);
    if (Array.isArray(told.records)) {
      if (typeof told.next === "number") place = told.next;
      onRecords(told.records, place);
    }
  };

  const lost = (code) => {
    socket = null;
    if (over || paused) return;
    if (code === DENIED && onDenied) {
      denied = true;
      onDenied();
    } else if (code in REFUSALS) {
      over = true;
      onStatus({ connection: "refused", text: REFUSALS[code] });
    } else {
      if (code in EMPTY) onStatus({ connection: "empty", text: EMPTY[code] });
      else if (!page?.hidden) onStatus({ connection: "lost", text: "" });
      timer = setTimeout(open, wait * (0.75 + Math.random() / 2)); // not all pages at the same moment
      wait = Math.min(LAST_MS, wait * 2);
    }
  };

  const shut = () => {
    clearTimeout(timer);
    const mine = socket;
    socket = null;
    mine?.close();
  };
  const looked = () => {
    if (page.hidden) shut();
    else open();
  };
  page?.addEventListener("visibilitychange", looked);
  open();
  return {
    renew(next) {
      url = next;
      if (denied) {
        denied = false;
        open();
      }
    },
    pause() {
      paused = true;
      shut();
    },
    resume() {
      paused = false;
      wait = FIRST_MS;
      open();
    },
    close() {
      over = true;
      page?.removeEventListener("visibilitychange", looked);
      shut();
    },
  };
}
