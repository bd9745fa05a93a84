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
  kept.data = data;
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
  const kept = { run: data.run, box, owner: undefined, flock: null, live: null, timer: 0, data, theme: "dark", ended: false };
  const at = (name) => import(/* ours, from where this page is from */ new URL(`/mg/web/${name}`, location.origin).href);
  shelf.modules ??= Promise.all([at("flock.js"), at("live.js")]);
  shelf.modules.then(([{ createFlock }, { connect }]) => { if (!kept.ended) fill(kept, createFlock, connect); },
    () => { shelf.modules = null; box.textContent = "The flock could not be loaded: load this page again."; });
  return kept;
}

function fill(kept, createFlock, connect) {
  const { box, data } = kept;
  const replay = data.mode === "replay";
  const flock = kept.flock = createFlock(box, {
    mode: replay ? "replay" : "live", theme: kept.theme, autoplay: false,
    reduced: matchMedia("(prefers-reduced-motion: reduce)").matches,
    onSelect: (what) => kept.trigger("select", { kind: what.kind, id: what.id }),
    href: ({ kind, id }) => {
      const page = kept.data.pages?.[kind];
      return page === undefined ? null : `/${page}?${new URLSearchParams({ run: data.run, sel: `${kind}:${id}` })}`;
    },
  });
  let gathered = [], upto = 0, header = null; // a finished run is played when all of it is there
  kept.live = connect({
    url: kept.data.url,
    onHeader(next, count) { header = next; upto = count; flock.header(next); if (replay && upto === 0) flock.load([]); },
    onRecords(records, next) {
      if (!replay) { flock.push(records); return; }
      for (const rec of records) gathered.push(rec);
      if (next < upto) return;
      flock.load(gathered);
      const end = gathered.reduce((last, rec) => Math.max(last, rec.t), header?.ended ? header.ended - header.began : 0);
      flock.seek(kept.data.t ?? end);
      if (kept.data.sel) flock.select(...kept.data.sel);
    },
    onReset() { gathered = []; flock.load([]); },
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
