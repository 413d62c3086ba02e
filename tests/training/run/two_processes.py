"""What `test_loop` starts twice with torchrun: a small run, three steps."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tinysam_training.data.sampling import Sources
from tinysam_training.data.window_batches import WindowBatches
from tinysam_training.learning.objective import Objective
from tinysam_training.run.folder import RunFolder
from tinysam_training.run.loop import Training
from tinysam_training.run.starting import Hardware, launched, new_model
from training.small_runs import discs, settle, with_steps


def main() -> None:
    recipe = with_steps(3)
    fabric = launched(Hardware("cpu", devices=2))
    torch.manual_seed(recipe.seed)
    student = new_model(recipe.model.architecture)
    settle(student)
    folder = RunFolder(Path(sys.argv[1]), recipe, writes=fabric.is_global_zero)
    folder.begin(resume=False)
    batches = WindowBatches(Sources.even(discs()), recipe)
    Training(Objective(student, recipe), batches, recipe, folder, fabric).run()


if __name__ == "__main__":
    main()
