"""Downloads from a server on this machine: whole and checked, or nothing at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from napari_tinysam.checkpoints import (
    ENVIRONMENT_VARIABLE,
    REGISTRY,
    fetch,
    is_available_offline,
    load,
    weights_folder,
)
from napari_tinysam.errors import CheckpointError
from official_models import official_tiny_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT = random.Random(0).randbytes(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves one file under any path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.breaks_off = False
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path == "/missing":
            self.send_error(404)
            return
        content = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content[: len(content) // 2])
            if not self.server.breaks_off:
                self.wfile.write(content[len(content) // 2 :])
        except OSError:
            pass  # cancelled

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server, and a registry whose MobileSAM and TinySAM come from it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        for name, sha256, size in (
            ("mobile_sam", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)),
            ("tinysam", None, None),
        ):
            changed = dataclasses.replace(
                REGISTRY[name], url=server.url, sha256=sha256, size=size
            )
            monkeypatch.setitem(REGISTRY, name, changed)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where downloads go; not there yet."""
    folder = tmp_path / "new" / "weights"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(folder))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def hollow_file(path: Path) -> bytes:
    """A small file that passes for TinySAM, and its content."""
    weights = {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        for name, tensor in official_tiny_weights().items()
    }
    torch.save(weights, path)
    return path.read_bytes()


def test_a_download_reports_progress_and_stays(
    server: Server, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    progress: list[tuple[int, int]] = []
    assert not is_available_offline("mobile_sam")
    path = fetch(
        "mobile_sam", progress=lambda done, total: progress.append((done, total))
    )
    assert path == folder / "mobile_sam.pt"
    assert path.read_bytes() == CONTENT
    assert names(folder) == ["mobile_sam.pt"]
    done = [at for at, _ in progress]
    assert len(done) > 5
    assert done == sorted(done)
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in progress} == {len(CONTENT)}
    assert is_available_offline("mobile_sam")
    assert fetch("mobile_sam") == path
    assert server.requests == 1
    assert capfd.readouterr() == ("", "")


def test_a_connection_that_breaks_off_leaves_nothing_and_the_next_try_works(
    server: Server, folder: Path
) -> None:
    server.breaks_off = True
    with pytest.raises(CheckpointError, match="the connection broke off"):
        fetch("mobile_sam")
    assert names(folder) == []
    server.breaks_off = False
    assert fetch("mobile_sam").read_bytes() == CONTENT
    assert names(folder) == ["mobile_sam.pt"]


def test_what_a_killed_process_left_is_removed(server: Server, folder: Path) -> None:
    folder.mkdir(parents=True)
    abandoned = folder / ".tinysam-0123abcd.unfinished"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    running = folder / ".tinysam-4567cdef.unfinished"
    running.write_bytes(b"another process is at it")
    fetch("mobile_sam")
    assert names(folder) == [running.name, "mobile_sam.pt"]


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt, InterruptedError])
@pytest.mark.parametrize("after", [0, 1_000_000, len(CONTENT)])
def test_what_the_callback_raises_cancels(
    server: Server, folder: Path, error: type[BaseException], after: int
) -> None:
    def cancel(done: int, total: int) -> None:
        if done >= after:
            raise error

    with pytest.raises(error):
        fetch("mobile_sam", progress=cancel)
    assert names(folder) == []


def test_a_file_with_another_hash_is_deleted(server: Server, folder: Path) -> None:
    server.content = b"<html>Please log in to the hotel's network</html>"
    with pytest.raises(CheckpointError, match=r"is a web page.*was deleted") as caught:
        fetch("mobile_sam")
    assert server.url in str(caught.value)
    assert names(folder) == []


@pytest.mark.parametrize("reason", ["404 Not Found", "no connection to the server"])
def test_without_the_network_the_message_says_what_to_do(
    server: Server, folder: Path, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url.replace("weights.pth", "missing")
    if reason.startswith("no"):
        with Server() as closed:
            url = closed.url
    changed = dataclasses.replace(REGISTRY["mobile_sam"], url=url)
    monkeypatch.setitem(REGISTRY, "mobile_sam", changed)
    with pytest.raises(CheckpointError) as caught:
        load("mobile_sam")
    message = str(caught.value)
    for part in (reason, url, "mobile_sam.pt", str(folder), ENVIRONMENT_VARIABLE):
        assert part in message
    assert "choose the file" in message
    assert names(folder) == []


def test_a_folder_that_cannot_be_made_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(in_the_way / "weights"))
    with pytest.raises(CheckpointError, match=r"cannot be stored in .*another folder"):
        fetch("mobile_sam")


def test_where_no_hash_is_published_the_content_is_checked_and_remembered(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    server.content = hollow_file(tmp_path / "served.pth")
    loaded = load("tinysam")
    assert loaded.name == "tinysam"
    assert names(folder) == ["tinysam_42.3.pth", "tinysam_42.3.pth.json"]
    memory = json.loads((folder / "tinysam_42.3.pth.json").read_text())
    assert memory["sha256"] == hashlib.sha256(server.content).hexdigest()
    assert memory["url"] == server.url
    assert load("tinysam").fingerprint == loaded.fingerprint
    loaded.path.write_bytes(server.content + b"x")
    with pytest.raises(CheckpointError, match="not the TinySAM checkpoint"):
        load("tinysam")


@pytest.mark.parametrize("content", [b"<html>", CONTENT])
def test_where_no_hash_is_published_other_content_is_deleted(
    server: Server, folder: Path, content: bytes
) -> None:
    server.content = content
    with pytest.raises(CheckpointError) as caught:
        fetch("tinysam")
    message = str(caught.value)
    assert "cannot be used and was deleted: tinysam_42.3.pth is a" in message
    assert ".unfinished" not in message
    assert names(folder) == []


def test_a_file_put_into_the_folder_is_found_and_checked(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(CONTENT[:-1])
    assert is_available_offline("mobile_sam")
    with pytest.raises(CheckpointError, match="Delete it to download it again"):
        load("mobile_sam")
    hollow_file(folder / "tinysam_42.3.pth")  # nothing is remembered about it
    assert load("tinysam").path == folder / "tinysam_42.3.pth"
    assert server.requests == 0


def test_the_environment_variable_comes_before_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(
        "platformdirs.user_data_path", lambda *args, **options: tmp_path / "data"
    )
    own = weights_folder()
    assert own == tmp_path / "data" / "weights"
    own.mkdir(parents=True)
    (own / "mobile_sam.pt").write_bytes(b"own")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(named))
    assert weights_folder() == named
    assert fetch("mobile_sam") == own / "mobile_sam.pt"
    (named / "mobile_sam.pt").write_bytes(b"named")
    assert fetch("mobile_sam") == named / "mobile_sam.pt"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "~/weights")
    assert weights_folder() == Path.home() / "weights"
