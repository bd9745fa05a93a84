// Plays the tape that lies in this page.
import { createFlock } from "./flock.js";

// The tape: its header, and its records.
async function unpack(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const lines = (await new Response(stream).text()).split("\n");
  const { header } = JSON.parse(lines[0]);
  // One parse of the whole is several times faster than one for each of 100,000 lines.
  return { header, records: JSON.parse(`[${lines.slice(1).filter(Boolean).join(",")}]`) };
}

async function play() {
  const root = document.getElementById("flock"), { theme, at } = document.body.dataset;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const named = () => theme || (dark.matches ? "dark" : "light");
  try {
    const tape = await unpack(document.getElementById("tape").textContent);
    const flock = createFlock(root, { mode: "replay", theme: named(), autoplay: at === "" });
    flock.header(tape.header);
    flock.load(tape.records);
    if (at !== "") flock.seek(Number(at));
    flock.start();
    dark.addEventListener("change", () => flock.setTheme(named()));
    window.flock = flock;
  } catch (error) {
    const told = document.createElement("p");
    told.className = "page-failed";
    told.textContent = `This run cannot be played here: ${error.message}. Any browser of 2023 or later can.`;
    root.replaceChildren(told);
    throw error;
  }
}

play();
