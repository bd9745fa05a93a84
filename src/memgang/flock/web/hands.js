// What a viewer does with mouse, fingers and keys, as verbs of the flock.

const FAR = 4; // px a press may move and still be a click

// Returns a function that lets go of everything.
export function takeHands(parts, flock) {
  const { el, stage, slider, search } = parts, undo = [];
  const listen = (target, type, act, options) => {
    target.addEventListener(type, act, options);
    undo.push(() => target.removeEventListener(type, act, options));
  };
  const within = (node, event) => {
    const box = node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  // ── the picture ──
  const fingers = new Map();
  let travelled = 0, spread = 0;
  const onPicture = (event) => event.target === parts.moving || event.target === stage;
  listen(stage, "pointerdown", (event) => {
    if (!onPicture(event)) return;
    fingers.set(event.pointerId, within(stage, event));
    travelled = 0;
    spread = 0;
  });
  listen(stage, "pointermove", (event) => {
    const [x, y] = within(stage, event), before = fingers.get(event.pointerId);
    if (!before) {
      if (onPicture(event)) flock.looking.hover(x, y);
      return;
    }
    fingers.set(event.pointerId, [x, y]);
    travelled += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    if (fingers.size === 2) {
      const [one, other] = [...fingers.values()], wide = Math.hypot(one[0] - other[0], one[1] - other[1]);
      if (spread) flock.view.zoom(wide / spread, (one[0] + other[0]) / 2, (one[1] + other[1]) / 2);
      spread = wide;
      flock.moved();
    } else if (travelled > FAR && flock.view.k > 1) {
      flock.view.pan(x - before[0], y - before[1]);
      flock.moved();
    }
  });
  const lift = (event) => {
    if (!fingers.delete(event.pointerId) || event.type !== "pointerup" || travelled > FAR) return;
    flock.looking.pick(...within(stage, event));
  };
  listen(window, "pointerup", lift);
  listen(window, "pointercancel", lift);
  listen(stage, "pointerleave", () => flock.looking.hover(-1e4, -1e4));
  listen(stage, "wheel", (event) => {
    if (!onPicture(event)) return;
    // Where the page itself can be scrolled the wheel is the page's, but for a pinch.
    const page = document.scrollingElement;
    if (!event.ctrlKey && !event.metaKey && page && page.scrollHeight > page.clientHeight + 2) return;
    event.preventDefault();
    flock.view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...within(stage, event));
    flock.moved();
  }, { passive: false });
  listen(stage, "dblclick", (event) => {
    if (!onPicture(event)) return;
    flock.view.zoom(1.9, ...within(stage, event));
    flock.moved();
  });
  const closer = (factor) => () => {
    flock.view.zoom(factor, flock.view.width / 2, flock.view.height / 2);
    flock.moved();
  };
  listen(parts.closer, "click", closer(1.5));
  listen(parts.farther, "click", closer(1 / 1.5));
  listen(parts.whole, "click", () => flock.looking.home());

  // ── the moment ──
  let dragging = null;
  listen(slider, "pointerdown", (event) => {
    dragging = event.pointerId;
    flock.seekAt(within(slider, event)[0], true);
  });
  listen(window, "pointermove", (event) => {
    if (dragging === event.pointerId) flock.seekAt(within(slider, event)[0], true);
  });
  const drop = (event) => {
    if (dragging !== event.pointerId) return;
    dragging = null;
    flock.seekAt(within(slider, event)[0], false);
  };
  listen(window, "pointerup", drop);
  listen(window, "pointercancel", drop);
  listen(parts.play, "click", () => flock.toggle());
  listen(parts["now-live"], "click", () => flock.follow());
  listen(parts.speed, "change", () => flock.setSpeed(Number(parts.speed.value)));

  // ── search, tables ──
  listen(search, "input", () => flock.looking.search(search.value));
  listen(search, "keydown", (event) => {
    if (event.key === "Enter") flock.looking.next();
    if (event.key === "Escape") {
      search.value = "";
      flock.looking.search("");
      stage.focus();
    }
    event.stopPropagation();
  });
  listen(parts.tables, "click", () => flock.turnTable());

  // ── keys ──
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 5, PageDown: -5 };
  const keys = (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = event.composedPath()[0], tag = at.tagName;
    if (tag === "INPUT" || tag === "SELECT" || tag === "TEXTAREA" || at.isContentEditable) return;
    const pressable = tag === "BUTTON" || tag === "A", inTable = parts.table.contains(at);
    if (event.key === "/") search.focus();
    else if (event.key === "Escape") flock.looking.clear();
    else if (event.key === " " && !pressable && !inTable) flock.toggle();
    else if (event.key in steps && !inTable) flock.seekBy(steps[event.key]);
    else if (event.key === "Home" && !inTable) flock.seekShare(0);
    else if (event.key === "End" && !inTable) flock.seekShare(1);
    else if (event.key === "+" || event.key === "=") closer(1.5)();
    else if (event.key === "-") closer(1 / 1.5)();
    else if (event.key === "0") flock.looking.home();
    else return;
    event.preventDefault();
  };
  listen(el, "keydown", keys);
  // On a page of its own keys work wherever the focus is; elsewhere only within.
  listen(document, "keydown", (event) => {
    if (event.target === document.body && el.isConnected && el.getBoundingClientRect().height > innerHeight * 0.8) keys(event);
  });
  return () => undo.forEach((act) => act());
}
