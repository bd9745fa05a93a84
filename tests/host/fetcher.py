"""A process of a host that gets a large body five times: the place of the tier, space, reference."""

from __future__ import annotations

import asyncio
import sys

import memgang


async def main(place: str, space: str, ref: str) -> None:
    async with memgang.open(space=space, agent="fetcher", host_dir=place, placement="network", part_bytes=1 << 20) as opened:
        for _ in range(5):
            print(len(await opened.get(memgang.Ref(ref), memoryview)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
