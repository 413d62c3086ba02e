"""The bundled model: trained in the background of a maintainer's machine, and put into the package.

``script/train-default`` is the command.
"""
