"""A process with many callers that want one page at the same time: space, URL, callers, max_age_s, at_once."""

from __future__ import annotations

import asyncio
import sys

import memgang
from memgang.reads import Manners, Reads


async def main(space: str, url: str, callers: int, max_age_s: float, at_once: int) -> None:
    host = url.partition("://")[2].partition("/")[0]
    async with memgang.open(space=space, agent="asker") as opened, Reads(opened, Manners(allow=[host], at_once=at_once)) as reads:
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        # With places to share each caller wants a page of its own.
        wanted = [f"{url}{number}" if at_once else url for number in range(callers)]
        pages = await asyncio.gather(*(reads.fetch(one, max_age_s=max_age_s) for one in wanted))
        print(len(pages), len({page.ref for page in pages}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
