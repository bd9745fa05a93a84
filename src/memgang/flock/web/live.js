// Live: follows a run over a WebSocket for as long as the page is looked at.
//
// It asks for what it has not had (`from`, in the list named by `epoch`). Where the server's list is another one everything comes
// again, and what was had is known by its ids. A tab that is hidden gives its connection back and goes on when it is shown.

const BACKOFF_MS = [500, 8000];
const DENIED = 4401, NO_RUN = 4404;

// onHeader(header, upto), onRecords(records), onReset() where what was shown is void, onStatus({connection, text}),
// onDenied(): the pass has ended; `renew(url)` goes on with another.
export function connect({ url, from = 0, onHeader, onRecords, onStatus, onReset, onDenied, WebSocket = globalThis.WebSocket,
  document = globalThis.document, location = globalThis.location }) {
  let socket = null, timer = 0, wait = BACKOFF_MS[0], place = from, epoch = "", closed = false, paused = false, denied = false;
  const seen = new Set();

  const status = (connection, text = "") => onStatus?.({ connection, text });

  function open() {
    clearTimeout(timer);
    if (closed || paused || denied || socket || document?.hidden) return;
    const base = location.origin.replace(/^http/, "ws");
    const mine = new WebSocket(`${base}${url}&from=${place}&epoch=${encodeURIComponent(epoch)}`);
    socket = mine;
    mine.onmessage = (message) => { if (socket === mine) take(JSON.parse(message.data)); };
    mine.onclose = (event) => { if (socket === mine) lost(event.code); };
  }

  function take(frame) {
    wait = BACKOFF_MS[0];
    if (frame.header) {
      if (frame.epoch !== epoch) {
        // The same process with another list: the server has lost its log, and gives ids of what is gone to others.
        if (epoch && epoch.split("-")[0] === frame.epoch.split("-")[0]) {
          seen.clear();
          onReset?.();
        }
        epoch = frame.epoch;
      }
      place = frame.from;
      onHeader?.(frame.header, frame.upto);
      status(frame.header.ended ? "ended" : "live");
    }
    if (frame.status) status(frame.status.connection, frame.status.text);
    if (frame.records) {
      place = frame.next;
      const fresh = frame.records.filter((rec) => !seen.has(rec.id) && seen.add(rec.id));
      onRecords?.(fresh, frame.next);
    }
  }

  function lost(code) {
    socket = null;
    if (closed || paused) return;
    if (code === DENIED) {
      denied = true;
      onDenied ? onDenied() : status("refused", "this page may not look any more: load it again");
    } else if (code === NO_RUN) {
      status("empty", "there is no such run (any more)");
      again();
    } else {
      if (!document?.hidden) status("lost", "the dashboard does not answer; trying again");
      again();
    }
  }

  function again() {
    clearTimeout(timer);
    timer = setTimeout(open, wait * (0.75 + Math.random() / 2)); // not all tabs at the same moment
    wait = Math.min(wait * 2, BACKOFF_MS[1]);
  }

  function drop() {
    clearTimeout(timer);
    const mine = socket;
    socket = null;
    mine?.close();
  }

  function turned() {
    if (document.hidden) drop();
    else open();
  }

  document?.addEventListener("visibilitychange", turned);
  open();
  return {
    renew(next) { url = next; if (denied) { denied = false; open(); } },
    pause() { paused = true; drop(); },
    resume() { paused = false; wait = BACKOFF_MS[0]; open(); },
    close() { closed = true; document?.removeEventListener("visibilitychange", turned); drop(); },
  };
}
