"""A web server of a folder on this computer, which can be told to vanish."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Notes what is asked for; `vanishes_after` answers it says 404 or 500, or hangs up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.vanishes_after = -1
        self.then = "404"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def send_head(self):
        server = self.server
        server.asked.append(self.path)
        if 0 <= server.vanishes_after < len(server.asked):
            if server.then == "hang up":
                self.close_connection = True
                self.connection.close()
            else:
                self.send_error(int(server.then))
            return None
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # it hung up
            super().handle()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
