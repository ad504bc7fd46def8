"""Does the driver's memory stay flat from 1,000 to 100,000 rows with pictures, and what does Ray cost per ask?

Runs the step `type_images` on drawn rows (one picture each, about 20 KB of noise behind a PNG's magic bytes) with the
local runner and with Ray (two workers on this machine). The asks go to a server that answers at once: it is no model,
so that what is measured is the runner, the annotation store and the pictures' way, and 100,000 asks are affordable.

Reported per size and runner: seconds, peak memory of the driver above its start (private memory, without Ray's shared
segment), microseconds per ask.

    python benchmarks/ray_runner.py [SIZE ...]     writes benchmarks/results/ray_runner.json
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZES = (1_000, 10_000, 100_000)
IMAGE_BYTES = 20_000
LIMIT_MB = 200

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
REPLY = json.dumps({"choices": [{"message": {"content": "chart"}, "finish_reason": "stop"}],
                    "usage": {"completion_tokens": 1, "prompt_tokens": 1}}).encode()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    def log_message(self, *args): pass
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
"""


class DrawnImages:
    """Pictures drawn from their own hash on demand, by whoever reads them."""

    def get(self, sha256: str) -> bytes:
        """About 20 KB of noise."""
        return b"\x89PNG\r\n\x1a\n" + hashlib.shake_128(sha256.encode()).digest(IMAGE_BYTES)


def measure(runner_name: str, rows: int, url: str) -> dict[str, float]:
    """One run in this process: seconds and peak private memory above the start."""
    import polars as pl
    import psutil
    from ray import cloudpickle

    from data_engine.progress import QuietProgress
    from data_engine.runners import Ask, Cell, open_runner
    from data_engine.steps import type_images
    from data_engine.steps.base import StepContext
    from shared.store import Store
    from shared.vlm import EngineSpec, Sampling

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    engine = EngineSpec(model="answers-at-once", endpoint=url, batch_size=128, concurrency=8)
    runner = open_runner(runner_name, workers=2)
    # Everything is imported and started before memory and time count: Ray, its actors, the client.
    runner.ask(
        engine, [Ask("warm", "<image>", images=("00",))], list[Cell].clear, images=DrawnImages(), sampling=Sampling()
    )
    hashes = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(rows)]
    frame = pl.DataFrame(
        {
            "id": [f"r{n}" for n in range(rows)],
            "question": ["How many? " * 20] * rows,
            "image_hashes": [[h] for h in hashes],
        }
    )
    del hashes
    process = psutil.Process()
    start = process.memory_full_info().uss
    peak, going = [start], threading.Event()

    def watch() -> None:
        while not going.wait(0.5):
            peak[0] = max(peak[0], process.memory_full_info().uss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        context = StepContext(Store.open(folder), "local", runner, {}, QuietProgress(), frame, DrawnImages())
        began = time.perf_counter()
        result = type_images.run(context, type_images.Settings(engine=engine))
        seconds = time.perf_counter() - began
    going.set()
    watcher.join()
    runner.close()
    assert result.computed == rows
    return {"seconds": round(seconds, 2), "driver_mb": round((peak[0] - start) / 2**20, 1)}


def main() -> None:
    """Each measurement in a process of its own, then the table."""
    sizes = [int(size) for size in sys.argv[1:]] or list(SIZES)
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    found = []
    try:
        for rows in sizes:
            for runner in ("local", "ray"):
                command = [sys.executable, __file__, "--one", runner, str(rows), url]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                one = {"runner": runner, "rows": rows, **json.loads(done.stdout.splitlines()[-1])}
                one["microseconds_per_ask"] = round(one["seconds"] / rows * 1e6)
                found.append(one)
                print(one, flush=True)
    finally:
        server.terminate()
    by = {(one["runner"], one["rows"]): one for one in found}
    largest, smallest = max(sizes), min(sizes)
    growth = by["ray", largest]["driver_mb"] - by["ray", smallest]["driver_mb"]
    overhead = (by["ray", largest]["seconds"] - by["local", largest]["seconds"]) / largest
    import machine

    made = {
        "machine": machine.machine(),
        "load_average_at_end": round(os.getloadavg()[0], 1),
        "what": "type_images on drawn rows, one 20 KB picture each, answered at once by a server that is no model",
        "runs": found,
        "driver_growth_mb": round(growth, 1),
        "driver_growth_limit_mb": LIMIT_MB,
        "ray_minus_local_seconds_per_ask": round(overhead, 6),
        "driver_overhead_seconds_per_ask": by["ray", largest]["seconds"] / largest,
    }
    results = Path(__file__).parent / "results" / "ray_runner.json"
    results.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps({name: value for name, value in made.items() if name != "runs"}, indent=1))
    assert growth < LIMIT_MB, "the driver's memory grows with the number of rows"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), sys.argv[4])))
    else:
        main()
