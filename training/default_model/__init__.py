"""Train the bundled model in the background of a maintainer's machine, and put it into the package.

The commands are ``script/train-default`` and ``script/train-on-gpu``.
"""
