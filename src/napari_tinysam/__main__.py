"""``python -m napari_tinysam``: the command line, for launchers such as torchrun."""

from napari_tinysam.cli.main import main

if __name__ == "__main__":
    main()
