"""Train the bundled model in the background, and put it into the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from default_model import background, progress
from default_model.state import RefusedError, State
from napari_tinysam.errors import TinySAMError


def main(words: list[str] | None = None) -> int:
    """Command line; returns the exit code: 0, 1 for a refusal, 2 for misuse."""
    asked = _parser().parse_args(words)
    state = State.usual()
    try:
        sys.stdout.write(f"{_done(asked, state)}\n")
    except TinySAMError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


def _done(asked: argparse.Namespace, state: State) -> str:
    if asked.what == "start":
        return background.start(
            state,
            data=asked.data,
            threads=asked.threads,
            new_code=asked.new_code,
            recipe=asked.recipe,
        )
    if asked.what == "land":
        return _landed(asked, state)
    ways = {
        "pause": background.pause,
        "resume": background.resume,
        "stop": background.stop,
        "status": progress.status,
    }
    return ways[asked.what](state)


def _landed(asked: argparse.Namespace, state: State) -> str:
    from default_model.landing import Landing, land

    orders = state.orders()
    data = asked.data or (Path(orders.data) if orders else None)
    if data is None:
        raise RefusedError("Name the folder of the images: --data FOLDER.")
    run: Path = asked.run or state.run
    weights = asked.weights or run / "best.safetensors"
    comparison = land(
        Landing(run, weights, data, asked.anyway, asked.images, asked.keep_thresholds),
        lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    )
    return f"The new model is in the package.\n{comparison.table()}"


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/train-default", description=__doc__, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="begin, or continue after a stop")
    start.add_argument("--data", type=Path, help="the data root; remembered")
    start.add_argument(
        "--threads", type=_count, help="default: as the last time, first all cores"
    )
    start.add_argument(
        "--new-code",
        action="store_true",
        help="continue with the commit checked out now",
    )
    start.add_argument(
        "--recipe", type=Path, help="for a new run; default: the bundled model's"
    )
    for name, text in (
        ("pause", "halt the process"),
        ("resume", "continue after a pause"),
        ("stop", "end after a checkpoint"),
        ("status", "steps, losses, validations, time left"),
    ):
        commands.add_parser(name, help=text)
    land = commands.add_parser("land", help="put the model into the package")
    land.add_argument("--run", type=Path, help="another run's folder")
    land.add_argument("--weights", type=Path, help="instead of the run's best")
    land.add_argument("--data", type=Path, help="default: the training's")
    land.add_argument("--anyway", action="store_true", help="even if it is not better")
    land.add_argument(
        "--keep-thresholds",
        action="store_true",
        help="auto-segment with the thresholds of the weights, not those of training images",
    )
    land.add_argument(
        "--images", type=int, default=0, help="images per set to compare on; 0 for all"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
