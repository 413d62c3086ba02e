"""The package itself: what importing costs, the manifest, and the wheel."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import npe2
import pytest
import yaml

import napari_tinysam

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "src" / "napari_tinysam" / "napari.yaml"
GUI = {"magicgui", "napari", "PyQt6", "PySide6", "qtpy", "superqt", "vispy"}
NETWORKS = {"openvino", "segment_anything", "timm", "torch", "torchvision"}


def run_python(code: str, *options: str, **environment: str) -> str:
    """Run code in a Python of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ------------------------------------------------------------ who imports what


def imported_by(*modules: str) -> set[str]:
    """Top-level names outside the standard library that importing `modules` loads."""
    code = f"""
import json, sys
before = set(sys.modules)
import {", ".join(modules)}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
"""
    return set(json.loads(run_python(code)))


def test_importing_the_package_imports_nothing_else():
    assert imported_by("napari_tinysam") == {"napari_tinysam"}


def test_prompts_image_and_masks_need_numpy_only():
    loaded = imported_by(
        "napari_tinysam.prompts", "napari_tinysam.image", "napari_tinysam.masks"
    )

    assert loaded == {"napari_tinysam", "numpy"}


def test_predictor_and_training_load_no_gui():
    loaded = imported_by(
        "napari_tinysam.inference.load",
        "napari_tinysam.checkpoints",
        "napari_tinysam.model",
        "napari_tinysam.inference.runtime.torch_runtime",
        "tinysam_training.data",
    )

    assert "torch" in loaded
    assert not loaded & GUI


def test_command_line_starts_without_gui_and_torch():
    loaded = imported_by("napari_tinysam.cli.main")

    assert not loaded & (GUI | NETWORKS | {"tinysam_training"})


def test_session_needs_no_qt():
    loaded = imported_by("napari_tinysam.ui.session.facade")

    assert "napari" in loaded
    assert not loaded & ({"PyQt6", "PySide6", "qtpy"} | NETWORKS)


def test_dock_opens_without_waiting_for_torch():
    loaded = imported_by(
        "napari_tinysam.ui.dock.widget",
        "napari_tinysam.ui.contributions.commands",
        "napari_tinysam.ui.contributions.samples",
    )

    assert "napari_tinysam" in loaded
    assert not loaded & (NETWORKS | {"tinysam_training"})


def test_model_opens_no_files_and_no_connections():
    code = """
import sys
import segment_anything, timm, napari_tinysam  # they may read what they like

opened = []
def watch(event, args):
    if event.startswith("socket.") or (
        event == "open" and not str(args[0]).endswith((".py", ".pyc"))
    ):
        opened.append((event, args))
sys.addaudithook(watch)

from napari_tinysam.model import SegmentAnything
SegmentAnything.uninitialized("tiny_vit")
SegmentAnything.uninitialized("vit_b")
assert not opened, opened
"""
    run_python(code)


# ------------------------------------------------------------------- manifest


def test_no_modules_import_each_other_in_a_circle_not_even_for_types() -> None:
    graph = grimp.build_graph(
        *("napari_tinysam", "tinysam_training", "papers", "default_model"),
        exclude_type_checking_imports=False,
        cache_dir=None,
    )
    imports = {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
    }
    assert "napari_tinysam.ui.session" in imports
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_import_contract_names_every_module_and_no_absent_one() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    (layers,) = (
        contract["layers"]
        for contract in settings["importlinter"]["contracts"]
        if contract["name"] == "Who may import whom"
    )
    named = [name for layer in layers for name in re.findall(r"[\w.]+", layer)]
    top = {"papers", "default_model", "tinysam_training"}
    top |= {
        f"napari_tinysam.{module.name}"
        for module in pkgutil.iter_modules(napari_tinysam.__path__)
    }
    assert sorted(named) == sorted(top)


def test_manifest_is_valid_and_all_it_names_can_be_imported():
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(MANIFEST), "--imports"],
        capture_output=True,
        encoding="utf-8",  # whatever locale earlier tests left behind
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout


def test_manifest_has_no_key_that_npe2_would_ignore():
    def leaves(value, path=()):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(inner, (*path, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                yield from leaves(inner, (*path, index))
        else:
            yield path

    written = set(leaves(yaml.safe_load(MANIFEST.read_text())))
    read = set(leaves(npe2.PluginManifest.from_file(MANIFEST).model_dump(mode="json")))

    assert written <= read


def test_manifest_offers_one_dock_widget_in_the_segment_menu():
    contributions = npe2.PluginManifest.from_file(MANIFEST).contributions

    (widget,) = contributions.widgets
    assert widget.display_name == "TinySAM"
    segment_menu = contributions.menus["napari/layers/segment"]
    assert widget.command in [getattr(item, "command", None) for item in segment_menu]


def test_manifest_commands_belong_to_a_widget_a_sample_or_a_menu():
    contributions = npe2.PluginManifest.from_file(MANIFEST).contributions
    used = [widget.command for widget in contributions.widgets]
    used += [sample.command for sample in contributions.sample_data]
    for items in contributions.menus.values():
        used += [item.command for item in items if hasattr(item, "command")]

    assert set(used) == {command.id for command in contributions.commands}


def test_settings_have_their_defaults(plugin_settings, npe2pm):
    from napari.settings import get_plugin_settings

    npe2pm.register(npe2.PluginManifest.from_file(MANIFEST))
    settings = get_plugin_settings("napari-tinysam")

    assert settings.model.name == "default"
    assert settings.model.device == "auto"
    assert settings.preview.enabled is True
    assert settings.labels.overlap == "never overwrite"
    assert settings.cache.memory > 0
    assert settings.cache.disk > 0
    assert settings.cache.ahead is True
    settings.model.device = "cpu"  # is saved, under the folder of this test
    assert "device: cpu" in settings.config_path.read_text()
    with pytest.raises(ValueError, match="teapot"):
        settings.model.device = "teapot"


def test_the_model_is_loaded_as_the_settings_say(plugin_settings, npe2pm, monkeypatch):
    from napari.settings import get_plugin_settings

    import napari_tinysam.inference.load
    from napari_tinysam.ui.session.embedding.loading import load_predictor

    asked = {}

    def stand_in(name, **options):
        asked.update(options, name=name)
        raise ValueError("nothing to load")

    monkeypatch.setattr(napari_tinysam.inference.load, "load_model", stand_in)
    npe2pm.register(npe2.PluginManifest.from_file(MANIFEST))
    settings = get_plugin_settings("napari-tinysam")
    for precision, threads in (("auto", 0), ("f32", 3)):
        settings.model.precision, settings.model.threads = precision, threads
        with pytest.raises(ValueError, match="nothing to load"):
            load_predictor("default", "cpu", print)
        assert asked.pop("progress") is print
        assert asked == {
            "name": "default",
            "device": "cpu",
            "precision": precision,
            "threads": threads,
        }


def test_manifest_at_the_root_is_the_one_in_the_package():
    assert (ROOT / "napari.yaml").resolve() == MANIFEST.resolve()


# ---------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """Build an sdist from this tree, and a wheel from that sdist, without a network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory) -> Path:
    """Install the wheel, and nothing else, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-compile", "--target", str(folder)]
    subprocess.run([*pip, "install", *options, str(distributions[1])], check=True)
    return folder


def run_installed(code: str, installed: Path) -> str:
    """Run code where the wheel is installed and this working tree is not.

    Without the site module (-S) the `.pth` file of an editable install has no effect;
    the dependencies come from the environment that runs the tests.
    """
    paths = [str(installed)]
    paths += sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    return run_python(code, "-S", PYTHONPATH=os.pathsep.join(paths))


def test_sdist_and_wheel_contain_what_belongs_there(distributions):
    sdist, wheel = distributions
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())

    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= in_sdist
    assert "tests/conftest.py" in in_sdist
    packages = {name.partition("/")[0] for name in in_wheel if ".dist-info" not in name}
    assert packages == {"napari_tinysam", "tinysam_training"}
    tracked = {
        path.relative_to(folder).as_posix()
        for folder in (ROOT / "src", ROOT / "training")
        for package in packages
        for pattern in ("*.py", "*.yaml")
        for path in (folder / package).rglob(pattern)
    }
    assert tracked <= in_wheel
    assert {"napari_tinysam/napari.yaml", "napari_tinysam/py.typed"} <= in_wheel
    assert "tinysam_training/recipes/default.yaml" in in_wheel
    for name in ("default", "default-int8"):
        assert f"napari_tinysam/weights/{name}.safetensors" in in_wheel


def test_wheel_declares_the_plugin_and_no_qt_binding(installed):
    code = """
import json
from importlib.metadata import distribution
dist = distribution("napari-tinysam")
print(json.dumps({
    "home": str(dist.locate_file("")),
    "version": dist.version,
    "requires": dist.requires,
    "entries": {f"{e.group}:{e.name}": e.value for e in dist.entry_points},
    "licence": dist.metadata["License-Expression"],
}))
"""
    found = json.loads(run_installed(code, installed))

    assert Path(found["home"]) == installed
    assert found["version"][0].isdigit()
    assert found["licence"] == "Apache-2.0"
    assert found["entries"] == {
        "console_scripts:napari-tinysam": "napari_tinysam.cli.main:main",
        "napari.manifest:napari-tinysam": "napari_tinysam:napari.yaml",
    }
    runtime = [name.lower() for name in found["requires"] if "extra ==" not in name]
    assert any(name.startswith("napari>=") for name in runtime)
    assert not [name for name in runtime if name.startswith(("pyqt", "pyside"))]


def test_wheel_is_found_by_napari_with_all_it_names(installed):
    code = """
import npe2
found = [r for r in npe2.PluginManifest.discover()
         if r.distribution.metadata["Name"] == "napari-tinysam"]
manifest = found[0].manifest
manifest.validate_imports()
import napari_tinysam, tinysam_training
print(manifest.display_name)
print(napari_tinysam.__file__)
print(tinysam_training.__file__)
"""
    name, plugin, training = run_installed(code, installed).splitlines()

    assert name == "TinySAM"
    assert Path(plugin).is_relative_to(installed)
    assert Path(training).is_relative_to(installed)


def test_wheel_segments_with_its_bundled_model(installed):
    code = """
import numpy as np
import napari_tinysam

y, x = np.mgrid[:192, :256]
nucleus = (y - 80) ** 2 / 30**2 + (x - 150) ** 2 / 22**2 < 1
light = np.random.default_rng(0).poisson(np.where(nucleus, 220.0, 40.0))
predictor = napari_tinysam.load_model(device="cpu")
embedding = predictor.encode(light.astype(np.uint16))
prompts = napari_tinysam.Prompts(points=[[[150.0, 80.0]]], boxes=[[126, 48, 174, 112]])
masks = predictor.predict(embedding, prompts)
best = np.asarray(masks.masks)[0, int(np.argmax(masks.scores[0]))]
assert best.shape == nucleus.shape
print((best & nucleus).sum() / (best | nucleus).sum())
"""
    assert float(run_installed(code, installed)) > 0.7
