"""Start the training on the other machine: check the pack, unpack the code, and run it.

Part of the pack as ``run.py``, run as ``python3 run.py OUT``. Imports only the standard library
before the code is unpacked.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path


def main() -> None:
    """Command line."""
    began = time.monotonic()
    pack, out = Path(__file__).resolve().parent, Path(sys.argv[1])
    manifest = json.loads((pack / "manifest.json").read_text("utf-8"))
    for name, known in manifest["files"].items():
        if hashlib.sha256((pack / name).read_bytes()).hexdigest() != known["sha256"]:
            sys.exit(f"Error: {name} of the pack is damaged.")
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        with tarfile.open(pack / "code.tar.xz") as code:
            code.extractall(work, filter="data")
        for wheel in sorted((pack / "wheels").glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work / "wheels")
        sys.path[:0] = [str(work / "src"), str(work / "training")]
        sys.path.append(str(work / "wheels"))  # the machine's own packages come first
        from default_model.on_gpu.training import train

        train(pack, out, work / "run", manifest, began)


if __name__ == "__main__":
    main()
