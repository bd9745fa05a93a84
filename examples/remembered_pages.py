"""Sixteen agents want the same page at once; the server is asked once. Needs no network: the server is in this program.

    python examples/remembered_pages.py
"""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import memgang

PAGE = b"<p>The pumps were tested in spring.</p>"
asked = []


class Site(BaseHTTPRequestHandler):
    """A page with an ETag: whoever has it already is told so, and sent nothing."""

    def do_GET(self) -> None:
        known = self.headers.get("If-None-Match") == '"1"'
        asked.append("304, no body" if known else f"200, {len(PAGE)} bytes")
        self.send_response(304 if known else 200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(0 if known else len(PAGE)))
        self.end_headers()
        self.wfile.write(b"" if known else PAGE)

    def log_message(self, *args: object) -> None:
        pass


async def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    # Only public addresses are fetched unless a host is allowed. On the real web: robots=True, delay_s=1, a user_agent of yours.
    manners = memgang.Manners(allow=[host], at_once=2)
    async with memgang.open(space="example") as space, memgang.Gang(space, manners=manners) as gang:
        pages = await asyncio.gather(*(gang.fetch(f"http://{host}/") for _ in range(16)))
        print(f"{len(pages)} pages, {len(set(page.ref for page in pages))} object: {await space.get(pages[0].ref)}")
        again = await gang.fetch(f"http://{host}/")
        print(f"unchanged: {again == pages[0]}; the server was asked {len(asked)} times: {'; '.join(asked)}")
    server.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
