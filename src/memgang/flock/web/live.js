// The connection of a page to a run that goes on. It comes back by itself, goes on where it was, and rests while nobody looks.

const FIRST_MS = 500, LAST_MS = 8000;
// Closed by the server for good: trying again would be refused again.
const REFUSALS = { 4401: "The access token is not valid or has expired; reload the page.", 4403: "This page may not read the run: it was opened from another site.", 4404: "There is no such run." };

// `url`: ws(s) address with run and token; `from`: the record to begin with. `onRecords(records)` may be given some twice, after
// the server was started anew: whoever takes them drops ids it has had. `onStatus({connection, text})`: live, lost, refused.
export function connect({ url, from = 0, onHeader = () => {}, onRecords = () => {}, onStatus = () => {}, WebSocket = globalThis.WebSocket }) {
  let place = from, epoch = "", socket = null, timer = 0, wait = FIRST_MS, over = false;

  const address = () => {
    const whole = new URL(url, globalThis.location?.href);
    whole.protocol = whole.protocol.replace("http", "ws");
    whole.searchParams.set("from", String(place));
    if (epoch) whole.searchParams.set("epoch", epoch);
    return whole.href;
  };

  const open = () => {
    timer = 0;
    if (over || socket || globalThis.document?.hidden) return;
    const mine = socket = new WebSocket(address());
    mine.onmessage = ({ data }) => {
      if (mine !== socket) return;
      let told;
      try {
        told = JSON.parse(data);
      } catch {
        return; // not ours
      }
      wait = FIRST_MS;
      if (told.header) {
        // Another epoch is another list of the server's: it sends all of it, and counts from where it says.
        if (told.epoch !== undefined && told.epoch !== epoch) {
          epoch = told.epoch;
          place = told.from ?? 0;
        }
        onHeader(told.header);
        onStatus({ connection: "live", text: "" });
      }
      if (Array.isArray(told.records)) {
        onRecords(told.records);
        if (typeof told.next === "number") place = told.next;
      }
    };
    mine.onclose = ({ code, reason }) => {
      if (mine !== socket) return;
      socket = null;
      if (over) return;
      if (code in REFUSALS) {
        over = true;
        onStatus({ connection: "refused", text: reason || REFUSALS[code] });
        return;
      }
      if (globalThis.document?.hidden) return;
      onStatus({ connection: "lost", text: "" });
      timer = setTimeout(open, wait * (0.75 + Math.random() / 2)); // not all pages at the same moment
      wait = Math.min(LAST_MS, wait * 2);
    };
  };

  const shut = () => {
    clearTimeout(timer);
    const mine = socket;
    socket = null;
    mine?.close();
  };
  const looked = () => {
    if (globalThis.document.hidden) shut();
    else if (!over && !socket && !timer) open();
    else if (!over && !socket) {
      clearTimeout(timer);
      open();
    }
  };
  globalThis.document?.addEventListener("visibilitychange", looked);
  open();
  return {
    close() {
      over = true;
      globalThis.document?.removeEventListener("visibilitychange", looked);
      shut();
    },
  };
}
