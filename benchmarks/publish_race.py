"""How long do 1 to 32 racing builders take to publish to one folder or bucket, and does any version get lost?

    python benchmarks/publish_race.py

Each builder is a process with content of its own that differs from all others in its recipe only; all start at the same
moment. Half of the builders of each race have equal content and must end as one version. The S3 server is moto's, on
loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.s3_server import s3_server
from benchmarks.sample_versions import row, write_rows
from shared.dataset_version import list_datasets

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "tests" / "shared" / "publishers.py"
RESULT = Path(__file__).parent / "results" / "publish_race.json"
BUILDERS = (1, 2, 8, 32)


def main() -> None:
    """Race, count, write the result."""
    found: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="publish-race-") as scratch, s3_server() as url:
        write_rows(Path(scratch, "built"), [row(number) for number in range(64)])
        for kind, store in (("folder", f"{scratch}/store"), ("bucket", url)):
            found[kind] = [race(f"{store}/{builders}", Path(scratch, "built"), builders) for builders in BUILDERS]
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(RESULT.read_text())


def race(store: str, built: Path, builders: int) -> dict[str, object]:
    """Return seconds from the start of the program to the last builder's end, and whether all versions are there."""
    started = time.monotonic()
    subprocess.run([sys.executable, PROGRAM, "race", store, built, str(builders)], check=True, cwd=ROOT)
    seconds = time.monotonic() - started
    versions = list_datasets(store)
    wanted = (builders + 1) // 2 + (builders > 1)
    assert len(versions) == wanted, f"{len(versions)} versions instead of {wanted}"
    assert all(version.verify().ok for version in versions)
    return {"builders": builders, "versions": len(versions), "seconds": round(seconds, 2)}


if __name__ == "__main__":
    main()
