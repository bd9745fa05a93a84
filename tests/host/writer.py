"""A process that writes to and reads from a tier without end; what it reads must be what was written.

    python -m tests.host.writer BASE SEED
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from memgang.store.host import enter


def body(number: int) -> bytes:
    """What belongs to an id, so that anybody can check it."""
    return b"%d " % number * (20 + number % 400)


async def main(base: Path, seed: int) -> None:
    home = enter("store", "space", base=base, bytes_max=16 << 20)
    assert home is not None
    chance, tier = random.Random(seed), home.tier
    print("up", flush=True)
    while True:
        number = chance.randrange(2000)
        match chance.randrange(10):
            case 0:
                tier.take_out([f"k{number}"])
            case 1 | 2 | 3:
                for more in range(chance.randrange(1, 20)):
                    tier.keep_body(f"k{number + more}", "text/plain", body(number + more), b"", 0, 0, time.monotonic())
            case _:
                found = tier.body(f"k{number}", 0)
                if found is not None and found.body != body(number):
                    print(f"wrong {number}", flush=True)
        tier.flags.live = time.monotonic() + 10
        await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
