"""OpenVINO is imported without its telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="OpenVINO has no wheel for this platform")

#: In place of the package that reports: it notes that it was asked to.
REPORTER = """
from pathlib import Path
Path(__file__).with_name("used").touch()
raise ImportError("not in tests")
"""


@pytest.mark.parametrize(
    "use",
    [
        "from napari_tinysam.inference.runtime.openvino.compiled import openvino_core as "
        "core; core()",
        "from napari_tinysam.export import check_packages; check_packages('openvino')",
    ],
)
def test_nobody_is_told_that_openvino_is_used(use: str, tmp_path: Path) -> None:
    if "exporting" in use:
        pytest.importorskip("onnx")
    package = tmp_path / "openvino_telemetry"
    package.mkdir()
    (package / "__init__.py").write_text(REPORTER)
    home = tmp_path / "home"
    home.mkdir()
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CI"},
        "PYTHONPATH": path,
        "HOME": str(home),
        "USERPROFILE": str(home),
    }
    code = f"{use}\nimport sys\nassert 'openvino_telemetry' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (package / "used").exists()
    assert not (home / "intel").exists()


def test_other_programs_may_report_as_before() -> None:
    """What is hidden while OpenVINO is imported is there afterwards."""
    code = (
        "from napari_tinysam.inference.runtime.openvino.unreported import import_openvino\n"
        "import importlib.util, sys\n"
        "before = importlib.util.find_spec('openvino_telemetry') is None\n"
        "assert import_openvino() is sys.modules['openvino']\n"
        "assert import_openvino() is sys.modules['openvino']\n"
        "assert (importlib.util.find_spec('openvino_telemetry') is None) == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
