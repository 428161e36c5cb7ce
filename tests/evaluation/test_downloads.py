"""A public file is downloaded once, checked and kept; what goes wrong is one line that helps."""

import hashlib
import http.server
import resource
import threading

import pytest

from creps_jax.evaluation import downloads
from creps_jax.progress import Progress
from tests.helpers.commands import names

DATA = bytes(range(256)) * 6_000  # In two chunks.
NAME = f"net-{hashlib.sha256(DATA).hexdigest()[:8]}.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the file, and one that ends too early."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/absent/"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[: len(DATA) // 2] if self.path.startswith("/cut/") else DATA)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """On the loopback device; its .url is that of its root, .asked what it has been asked for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.asked = []
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Of the user's cache."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "creps_jax"


def test_a_file_is_downloaded_once(server, folder):
    url = f"{server.url}/once/{NAME}"
    for _ in range(2):
        assert downloads.cached(url) == folder / NAME
    assert (folder / NAME).read_bytes() == DATA and names(folder) == [NAME]
    assert server.asked.count(f"/once/{NAME}") == 1


def test_how_far_it_is_is_shown(server, capsys, monkeypatch):
    monkeypatch.setattr("creps_jax.progress.LINE_SEC", 0.0)
    downloads.cached(f"{server.url}/{NAME}", Progress(None))
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("1/1 MiB  ") and last.startswith("1/1 MiB  ")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (f"absent/{NAME}", "HTTP Error 404: Not Found"),
        (
            "net-00000000.pth",
            rf"the SHA-256 of its 1,536,000 bytes begins {NAME[4:12]}, not 0{{8}}",
        ),
        (f"cut/{NAME}", rf"the SHA-256 of its 768,000 bytes begins \w{{8}}, not {NAME[4:12]}"),
    ],
)
def test_what_is_no_such_file_is_not_kept(server, folder, path, reason):
    url = f"{server.url}/{path}"
    told = rf"{folder}/net-\w+.pth cannot be had: {reason}; download {url} by hand, as this file"
    with pytest.raises(OSError, match=told):
        downloads.cached(url)
    assert names(folder) == []


def test_without_a_network_the_url_is_told():
    with pytest.raises(OSError, match=r"refused.*; download http://127.0.0.1:9/a-00.pth by hand"):
        downloads.cached("http://127.0.0.1:9/a-00.pth")


def test_a_full_disk_keeps_no_piece(server, folder):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(
            OSError, match=f"too large: .*{NAME}.*; download {server.url}/{NAME} by"
        ):
            downloads.cached(f"{server.url}/{NAME}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(folder) == []


def test_without_a_cache_folder_nothing_is_asked_for(server, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(OSError, match=f"no cache folder to keep {NAME} in; download .* by hand"):
        downloads.cached(f"{server.url}/nowhere/{NAME}")
    assert f"/nowhere/{NAME}" not in server.asked
