"""Kill a batch again and again, and compare what it leaves with a run in peace.

``python -m benchmarks.kills --kills 20 --workers 2`` makes a slide, which is segmented tile by
tile, a stack and some small images. ``python -m benchmarks.kills IMAGES …`` takes others.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.auto_in_tiles import nuclei


def main() -> None:
    """Print how often the batch was killed, what was done twice, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=3000, help="of the slide")
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = chosen.images or [str(make_images(folder / "images", chosen.side))]
        peaceful, disturbed = folder / "peaceful", folder / "disturbed"
        begun = time.monotonic()
        run(images, peaceful, chosen.workers)
        whole = time.monotonic() - begun
        expected = results(peaceful)
        done: Counter[str] = Counter()
        kills = rounds = twice = 0
        tiles: list[tuple[int, int]] = []
        different: set[str] = set()
        while kills < chosen.kills:
            before = kept(disturbed)
            seconds = chance.uniform(0.1, 0.6) * whole
            killed, written = run(images, disturbed, chosen.workers, seconds=seconds)
            kills += killed
            done += written
            if killed:
                tiles.append((before, kept(disturbed)))
                continue
            rounds += 1
            twice += sum(count > 1 for count in done.values())
            different |= differing(expected, results(disturbed))
            done.clear()
            shutil.rmtree(disturbed)  # and once more
        done += run(images, disturbed, chosen.workers)[1]
        twice += sum(count > 1 for count in done.values())
        different |= differing(expected, results(disturbed))
        lost = sum(after < before for before, after in tiles)
        say(
            f"{kills} kills in {rounds + 1} runs: {twice} files done twice, {len(different)} of "
            f"{len(expected)} results differ. Planes and tiles that waited on disk at the kills: "
            f"{', '.join(str(after) for _, after in tiles)}."
        )
        say(f"Fewer than before the run, since a file was finished: {lost} times.")
        sys.exit(bool(twice or different))


def make_images(folder: Path, side: int) -> Path:
    """Write a slide in compressed tiles, a stack and two small images."""
    folder.mkdir()
    slide, _ = nuclei(side)
    tifffile.imwrite(folder / "slide.tif", slide, tile=(256, 256), compression="zlib")
    small = slide[:512, :512]
    stack = np.stack([small, small[::-1], small[:, ::-1]])
    tifffile.imwrite(folder / "stack.tif", stack, metadata={"axes": "ZYX"})
    for number in range(2):
        tifffile.imwrite(folder / f"small{number}.tif", small[:, : 400 + number])
    return folder


def run(
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
        text = said.read()
    if not killed and process.returncode:
        sys.exit(f"The batch failed:\n{text}")
    lines = [line for line in text.splitlines() if line[:1] + line[-1:] == "{}"]
    written = Counter(
        event["image"]
        for event in map(json.loads, lines)
        if event["event"] == "file" and event["state"] == "written"
    )
    return killed, written


def kept(folder: Path) -> int:
    """Count the planes and tiles that wait for the rest of their file."""
    return sum(1 for _ in (folder / ".tinysam-planes").rglob("*.npz"))


def results(folder: Path) -> dict[str, bytes]:
    """Read all results; of folders each file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    """Return the names of files that are not the same in both."""
    return {
        name for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    }


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
