"""The proxies of `proxy.py`: how each is started, one worker each, with a cache as its documentation says, and how it is ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from beside import ends, measured

LITELLM = "litellm[proxy]==1.106.2"  # pinned: every few days there is another
START_S = 60.0


class Proxy:
    """One proxy that runs. ``started_s`` is the time from the start of its process to its first answer."""

    def __init__(self, who: str, port: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self.who, self.port, self.process, self.started_s = who, port, process, 0.0

    def memory(self) -> float:
        """MiB of the processes it is made of, resident; of several, shared pages counted in parts."""
        assert self.process is not None
        pids = [self.process.pid, *children(self.process.pid)]
        return sum(measured.memory(pid)["rss" if len(pids) == 1 else "pss"] for pid in pids) / 2**20


def children(pid: int) -> list[int]:
    """The processes a process has started, as far as they are part of it: MemGang's server outlives it and is not."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [int(child) for child in listed if "-server" not in Path(f"/proc/{child}/comm").read_text("utf-8")]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def asked(port: int, name: str) -> int:
    """How often the provider was asked for this."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as line:
        line.request("GET", f"/calls/{name}")
        return int(json.loads(line.getresponse().read()))


def available(who: str) -> None:
    """Install or find what it needs. Raises RuntimeError with the reason where it cannot be had."""
    if who == "LiteLLM":
        measured.apart("litellm", LITELLM)
    if who == "nginx" and not nginx():
        raise RuntimeError("nginx is not installed (Debian: apt install nginx-light); it need not run as a service")


def nginx() -> str | None:
    """The program; it is not on the PATH of everybody."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def versions(names: list[str]) -> dict[str, str]:
    """Of those that are no package of our environment."""
    found = {}
    if "LiteLLM" in names:
        found["litellm"] = LITELLM.partition("==")[2]
    if "nginx" in names and (program := nginx()):
        found["nginx"] = subprocess.run([program, "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    return found


@contextlib.contextmanager
def started(who: str, provider: int, redis: int, folder: Path) -> Iterator[Proxy]:
    """The proxy, once it has answered. ``redis`` is the port of the server for its cache; 0: MemGang's own, started with it."""
    port = free_port()
    folder.mkdir(parents=True)
    command, given = commands(who, port, provider, redis, folder)
    # Each has its provider's key; no proxy of this machine's surroundings may come between; nothing is fetched from anywhere.
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper() and not name.startswith("OPENAI")}
    with (folder / "out").open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=kept | given, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder)
        try:
            proxy = Proxy(who, port, process)
            proxy.started_s = first_answer(process, port, folder / "out") - began
            yield proxy
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def first_answer(process: subprocess.Popen[bytes], port: int, out: Path) -> float:
    """When it had answered for the first time, asked every 5 ms."""
    request, until = ends.request(port, f"0 0 start-{port}"), time.perf_counter() + START_S
    while process.poll() is None and time.perf_counter() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as line:
            line.sendall(request)
            if line.recv(65_536).startswith(b"HTTP/1.1 200"):
                return time.perf_counter()
        time.sleep(0.005)
    said = out.read_text("utf-8", "replace").strip().splitlines()
    raise RuntimeError(f"did not answer within {START_S:.0f} s: {said[-1] if said else 'it said nothing'}"[:300])


def commands(who: str, port: int, provider: int, redis: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """How it is started, and what it finds in its environment."""
    if who == "MemGang":
        given = {"MEMGANG_STATE_DIR": f"{folder}/state", "MEMGANG_RUNTIME_DIR": f"{folder}/run", "OPENAI_API_KEY": ends.KEY}
        if redis:
            given["MEMGANG_URL"] = f"redis://127.0.0.1:{redis}"
        return [str(Path(sys.executable).parent / "memgang"), "proxy", "--upstream", f"http://127.0.0.1:{provider}/v1",
                "--port", str(port), "--space", "bench"], given
    if who == "LiteLLM":
        config = {
            "model_list": [{"model_name": ends.MODEL, "litellm_params": {
                "model": f"openai/{ends.MODEL}", "api_base": f"http://127.0.0.1:{provider}/v1", "api_key": ends.KEY}}],
            "litellm_settings": {"cache": True, "cache_params": {"type": "redis", "host": "127.0.0.1", "port": redis, "ttl": 3_600}},
            "general_settings": {"master_key": ends.KEY}}
        (folder / "config.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        return [str(measured.apart("litellm", LITELLM) / "litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1",
                "--port", str(port), "--num_workers", "1", "--telemetry", "False"], {
            # Its table of prices comes with it and is not fetched; as in production no log of each request, no pages, no .env.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "NO_DOCS": "True",
            "DISABLE_ADMIN_UI": "True", "HF_HUB_OFFLINE": "1", "TIKTOKEN_CACHE_DIR": ""}
    (folder / "nginx.conf").write_text(NGINX % {"folder": folder, "port": port, "provider": provider}, encoding="utf-8")
    program = nginx()
    assert program is not None
    return [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-p", str(folder)], {}


# The whole body is in memory, as $request_body asks for; a hundred callers wait for one answer, polling every half second at most.
NGINX = """
daemon off; master_process off; worker_processes 1; pid %(folder)s/pid; error_log %(folder)s/error.log warn;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 100000000; client_body_buffer_size 1m; client_max_body_size 1m; tcp_nodelay on;
  client_body_temp_path %(folder)s/body; proxy_temp_path %(folder)s/temp; fastcgi_temp_path %(folder)s/fastcgi;
  uwsgi_temp_path %(folder)s/uwsgi; scgi_temp_path %(folder)s/scgi;
  proxy_cache_path %(folder)s/cache keys_zone=answers:16m max_size=256m inactive=1h use_temp_path=off;
  upstream provider { server 127.0.0.1:%(provider)s; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:%(port)s backlog=1024;
    location / {
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache answers; proxy_cache_methods POST; proxy_cache_key "$request_uri|$request_body"; proxy_cache_valid 200 1h;
      proxy_cache_lock on; proxy_cache_lock_timeout 60s; proxy_cache_lock_age 60s;
    }
  }
}
"""
