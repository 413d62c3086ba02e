"""Train the bundled model for a few minutes on a machine with a GPU."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from default_model.beginning import begun_with, fitting_start, plain_recipe
from default_model.code_copy import REPOSITORY
from default_model.on_gpu.collecting import collect
from default_model.on_gpu.packing import PackOrder, gpu_recipe, prepare
from default_model.on_gpu.rehearsal import rehearse, small_recipe
from napari_tinysam.errors import TinySAMError
from tinysam_training.recipe import find_recipe

_PACK = REPOSITORY / ".gpu"


def main(words: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 for a refusal, 2 for misuse."""
    parser = _parser()
    asked = parser.parse_args(words)
    if asked.what == "prepare" and asked.data is None and not asked.rehearse:
        parser.error("prepare needs --data, or --rehearse")
    try:
        if asked.what == "collect":
            said = collect(asked.folder, asked.pack, asked.output, _say)
        else:
            said = _prepared(asked)
    except TinySAMError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


def _prepared(asked: argparse.Namespace) -> str:
    content = plain_recipe(asked.recipe)
    start = asked.start or fitting_start(content)
    content = begun_with(content, start)
    packing = PackOrder(
        gpu_recipe(content, asked.minutes, started=start is not None),
        asked.data or REPOSITORY,
        asked.output,
        asked.minutes,
        start or "",
        asked.wheels or ("none" if asked.rehearse else "download"),
        int(asked.limit * 2**20),
    )
    if not asked.rehearse:
        return prepare(packing, _say)
    small = small_recipe(packing.recipe, drawn=asked.data is None)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        packing = replace(packing, recipe=small, folder=folder / asked.output.name)
        return rehearse(packing, folder, _say)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/train-on-gpu", description=__doc__, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    pack = commands.add_parser(
        "prepare", help="pack, and print the command to run there"
    )
    pack.add_argument("--data", type=Path, help="the data root")
    pack.add_argument(
        "--minutes", type=float, default=8.5, help="for the whole command"
    )
    pack.add_argument(
        "--start", default="", help="weights to start from: a file or a name"
    )
    pack.add_argument(
        "--wheels", default="", help="a folder with wheels, download, or none"
    )
    pack.add_argument("--limit", type=float, default=60, help="MiB of the pack")
    pack.add_argument("--recipe", type=Path, default=find_recipe("default"))
    pack.add_argument("-o", "--output", type=Path, default=_PACK)
    pack.add_argument("--rehearse", action="store_true", help="small, here, on the CPU")
    back = commands.add_parser("collect", help="put together what came back, and judge")
    back.add_argument("folder", type=Path)
    back.add_argument("--pack", type=Path, default=_PACK)
    back.add_argument(
        "-o", "--output", type=Path, default=REPOSITORY / "training" / "runs" / "gpu"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
