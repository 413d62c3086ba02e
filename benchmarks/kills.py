"""Kill a batch again and again, and compare what it leaves with a run in peace.

python -m benchmarks.kills IMAGES --kills 20 --workers 2
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def main() -> None:
    """Print how often the batch was killed, what was done twice, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as temporary:
        peaceful, disturbed = Path(temporary, "peaceful"), Path(temporary, "disturbed")
        began = time.monotonic()
        _run(chosen.images, peaceful, chosen.workers)
        whole = time.monotonic() - began
        done: Counter[str] = Counter()
        kills = 0
        while kills < chosen.kills:
            killed, written = _run(
                chosen.images,
                disturbed,
                chosen.workers,
                seconds=chance.uniform(0.05, 0.5) * whole,
            )
            kills += killed
            done += written
            if not killed:  # all is done: take half of it away, and go on
                for path in disturbed.glob("*_labels.tif"):
                    if chance.random() < 0.5:
                        path.unlink()
                done.clear()
        done += _run(chosen.images, disturbed, chosen.workers)[1]
        first, second = _results(peaceful), _results(disturbed)
        different = {path.name for path in first} ^ {path.name for path in second}
        different |= {
            path.name
            for path in first
            if (disturbed / path.name).exists()
            and path.read_bytes() != (disturbed / path.name).read_bytes()
        }
        twice = sum(count > 1 for count in done.values())
        print(  # noqa: T201
            f"{kills} kills, {twice} files done twice, {len(different)} of {len(first)} results "
            f"differ"
        )
        sys.exit(bool(twice or different))


def _run(
    images: list[str], out: Path, workers: int, seconds: float | None = None
) -> tuple[bool, Counter[str]]:
    """Run the command; returns whether it was killed, and the files that it segmented."""
    command = [sys.executable, "-m", "napari_tinysam", "auto", *images]
    command += ["-o", str(out), "--workers", str(workers), "--progress", "json"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        killed = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed = True
        said.seek(0)
        lines = [line for line in said if line.startswith("{") and line.endswith("}\n")]
    events = [json.loads(line) for line in lines]
    written = Counter(
        event["image"]
        for event in events
        if event["event"] == "file" and event["state"] == "written"
    )
    return killed, written


def _results(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


if __name__ == "__main__":
    main()
