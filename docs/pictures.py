"""The pictures of README and docs/dashboard.md: a run of the demo, and synthetic runs of several sizes. Needs a Chromium."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import msgspec
from PIL import Image

from memgang.flock import film
from memgang.flock.tape import Header, Tape, encoded, read

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
from tests.flock import synthetic  # noqa: E402  # not installed; what it makes says of itself that nobody ran it

PICTURES = DOCS / "pictures"
SHIPPED = DOCS.parent / "src/memgang/flock/demo.jsonl.gz"  # what `memgang replay demo` plays
SIZES = {3: 14_000, 8: 9_000, 50: 11_000, 500: 9_500}  # agents -> ms since the run began
COLOURS = 160


def keep(name: str, png: bytes) -> None:
    """As a small PNG: a picture of lights on a plain ground needs few colours."""
    with Image.open(io.BytesIO(png)) as whole:
        whole.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)
    print(f"docs/pictures/{name}")


def main(demo: Path) -> None:
    """Write them; ``demo`` is the tape of a run of `make demo`."""
    PICTURES.mkdir(exist_ok=True)
    tape = read(demo)
    SHIPPED.write_bytes(gzip.compress(encoded(tape), 9, mtime=0))
    print("src/memgang/flock/demo.jsonl.gz")
    (PICTURES / "flock.gif").write_bytes(film.film(tape, width=640, height=400, seconds=6, fps=8))
    print("docs/pictures/flock.gif")
    half = next((words["t"] for words in tape.records if words["op"] == "phase" and words.get("text") == "reduce"), 0) + 30
    for theme in ("dark", "light"):
        keep(f"demo-{theme}.png", film.still(tape, half, width=1280, height=760, theme=theme))
    for agents, at_ms in SIZES.items():
        header, records = synthetic.tape(agents)
        made = Tape(msgspec.convert(header, Header), records)
        for theme in ("dark", "light"):
            keep(f"agents-{agents}-{theme}.png", film.still(made, at_ms, width=1280, height=760, theme=theme))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
