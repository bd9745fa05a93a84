// The flock in a page of Streamlit. Streamlit calls this whenever the script has run, the theme has changed or the page is shown
// again; the flock is made once for a run, and kept while other pages are looked at.

const KEEP_MS = 10 * 60 * 1000; // how long it is kept out of sight
const shelf = (window.__memgang ??= { creates: 0, kept: null, modules: null });

export default function (component) {
  const { parentElement: root, data, setTriggerValue } = component;
  const stage = root.querySelector(".mgd-place");
  let kept = shelf.kept;
  if (kept && kept.run !== data.run) {
    end(kept);
    kept = null;
  }
  if (!kept) kept = shelf.kept = begin(data);
  kept.trigger = setTriggerValue;
  const before = kept.data;
  kept.data = data;
  if (kept.opened && (before.t !== data.t || String(before.sel) !== String(data.sel))) open(kept, before.t !== data.t);
  kept.theme = themeOf(root.host ?? root);
  clearTimeout(kept.timer);
  if (kept.owner !== root) {
    stage.replaceChildren(kept.box);
    if (kept.owner === null && kept.flock) {
      kept.flock.start();
      kept.live.resume();
    }
    kept.owner = root;
  }
  kept.flock?.setTheme(kept.theme);
  kept.live?.renew(data.url);
  return () => {
    if (kept.owner !== root) return; // it has moved on already
    kept.owner = null;
    kept.flock?.stop();
    kept.live?.pause();
    kept.timer = setTimeout(() => { if (kept.owner === null) end(kept); }, KEEP_MS);
  };
}

function begin(data) {
  shelf.creates++;
  const box = document.createElement("div");
  box.className = "mgd-box";
  const kept = { run: data.run, mode: data.mode, box, owner: undefined, flock: null, live: null, timer: 0, data, theme: "dark", opened: false, ended: false };
  const at = (name) => import(/* ours, from where this page is from */ new URL(`/mg/web/${name}`, location.origin).href);
  shelf.modules ??= Promise.all([at("flock.js"), at("live.js")]);
  shelf.modules.then(([{ createFlock }, { connect }]) => { if (!kept.ended) fill(kept, createFlock, connect); },
    () => { shelf.modules = null; box.textContent = "The flock could not be loaded: load this page again."; });
  return kept;
}

function fill(kept, createFlock, connect) {
  const { box, data } = kept;
  const replay = kept.mode === "replay"; // as it was when the flock was made
  const flock = kept.flock = createFlock(box, {
    mode: replay ? "replay" : "live", theme: kept.theme, autoplay: false,
    reduced: matchMedia("(prefers-reduced-motion: reduce)").matches,
    onSelect: (what) => kept.trigger("select", { kind: what.kind, id: what.id }),
    href: ({ kind, id }) => {
      const page = kept.data.pages?.[kind];
      return page === undefined ? null : `/${page}?${new URLSearchParams({ run: data.run, sel: `${kind}:${id}` })}`;
    },
  });
  // A finished run is played when all of it is there, and not begun again where it only comes again.
  let gathered = new Map(), loaded = 0, upto = 0;
  kept.live = connect({
    url: kept.data.url,
    onHeader(header, count, now) { upto = count; flock.header(header, now); if (replay && upto === 0) flock.load([]); },
    onRecords(records, next) {
      if (replay) for (const rec of records) gathered.set(rec.id, rec);
      else flock.push(records);
      if (next < upto || (replay ? gathered.size === loaded : kept.opened)) return;
      if (replay) flock.load([...gathered.values()]);
      loaded = gathered.size;
      kept.opened = true;
      open(kept, replay || (kept.data.t ?? null) !== null);
    },
    onReset() { gathered.clear(); loaded = 0; flock.load([]); },
    onStatus(status) { kept.status = status; flock.status(status); },
    onDenied() { // the script makes a new pass, and calls us again with it
      if (kept.owner) kept.trigger("renew", Date.now());
    },
  });
  flock.start();
  if (kept.owner === null) { // left before it was there
    flock.stop();
    kept.live.pause();
  }
}

// Shows what the address says: a moment, and who or what is chosen. Without a moment: the end of what is over, or now.
function open({ flock, data, mode }, moved) {
  if (moved && (data.t ?? null) !== null) {
    flock.seek(data.t);
    flock.pause();
  } else if (moved && mode === "live") flock.follow();
  else if (moved) flock.seek(Infinity);
  if (data.sel) flock.select(...data.sel);
}

function end(kept) {
  kept.ended = true;
  clearTimeout(kept.timer);
  kept.live?.close();
  kept.flock?.destroy();
  kept.box.remove();
  if (shelf.kept === kept) shelf.kept = null;
}

function themeOf(host) {
  const ground = getComputedStyle(host).getPropertyValue("--st-background-color").trim();
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})/i.exec(ground);
  const parts = hex ? hex.slice(1).map((two) => parseInt(two, 16)) : (ground.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number);
  return parts[0] * 0.3 + parts[1] * 0.59 + parts[2] * 0.11 < 128 ? "dark" : "light";
}
