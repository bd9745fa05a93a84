// Plays the tapes that lie in this page: one that fills it, or several side by side, which then move together.
import { createFlock } from "./flock.js";
import { tellFailure, unpackTape } from "./tape.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const themeNow = () => document.body.dataset.theme || (dark.matches ? "dark" : "light");

async function play() {
  const { at } = document.body.dataset, still = at !== undefined && at !== "", roots = [...document.querySelectorAll("[data-tape]")];
  const tapes = await Promise.all(roots.map((root) => unpackTape(document.getElementById(root.dataset.tape).textContent)));
  const flocks = roots.map((root, i) => {
    const flock = createFlock(root, { mode: "replay", theme: themeNow(), autoplay: !still, compact: roots.length > 1 });
    flock.header(tapes[i].header);
    flock.load(tapes[i].records);
    if (still) flock.seek(Number(at));
    flock.start();
    return flock;
  });
  dark.addEventListener("change", () => { for (const flock of flocks) flock.setTheme(themeNow()); });
  document.getElementById("again")?.addEventListener("click", () => {
    for (const flock of flocks) {
      flock.seek(0);
      flock.play();
    }
  });
  [window.flock] = flocks;
  document.body.dataset.state = "ready";
}

play().catch((error) => {
  for (const root of document.querySelectorAll("[data-tape]")) tellFailure(root, error);
  document.body.dataset.state = "failed";
  throw error;
});
