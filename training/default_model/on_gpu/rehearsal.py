"""A small rehearsal on this machine: pack, run the command as there, collect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from default_model.on_gpu.collecting import collect
from default_model.on_gpu.other_machine import blocker
from default_model.on_gpu.packing import PackOrder, prepare
from default_model.state import RefusedError

Say = Callable[[str], None]

#: Images to draw instead of reading data.
_DRAWN = {"kind": "synthetic", "kinds": ["nuclei"], "size": [96, 96]}


def small_recipe(content: Mapping[str, Any], *, drawn: bool) -> dict[str, Any]:
    """Make a recipe that takes seconds.

    Parameters
    ----------
    content : mapping
        Plain values of a recipe.
    drawn : bool
        Whether the generator draws the images. Otherwise one image of each source is used.
    """
    model = {**content.get("model", {}), "imagenet": False, "batch_norm": "frozen"}
    if drawn:
        data = [{**_DRAWN, "count": 3}]
        validation = [{**_DRAWN, "count": 1, "seed": 1}]
    else:
        data = [{**each, "limit": 1} for each in content.get("data", ())]
        validation = [{**each, "limit": 1} for each in content.get("validation", ())]
    return {
        **content,
        "data": data,
        "validation": validation,
        "model": model,
        "stages": [{"windows": [[64, 2, 1.0]], "objects": 2, "rounds": 0}],
        "judging": {"every": 1.0, "images": 1, "objects": 1},
        "steps": 2,
        "minutes": 0,
    }


def rehearse(asked: PackOrder, folder: Path, say: Say) -> str:
    """Pack, run and collect on this machine.

    Parameters
    ----------
    asked : PackOrder
        Small.
    folder : Path
        For the delivery, and the run made of it.
    say : callable

    Raises
    ------
    RefusedError
        If the command fails.
    """
    command = prepare(asked, say)
    out = folder / "out"
    program = f"{blocker()}\nimport runpy\nsys.argv = ['run.py', sys.argv[1]]\n"
    program += f"runpy.run_path({str(asked.folder / 'run.py')!r}, run_name='__main__')"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(out)],
        cwd=folder,
        env={**environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    say(done.stdout.rstrip())
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RefusedError(f"The command failed: {lines[-1]}")
    said = collect(out, asked.folder, folder / "run", say)
    return f"{said}\nThe command, rehearsed: {command}"
