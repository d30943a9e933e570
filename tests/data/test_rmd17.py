"""Named data sets from a folder or over http; broken downloads continue where they stopped."""

import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dreibein.data import DataConfig, load_data
from dreibein.data.download import download
from dreibein.data.rmd17 import data_folder, find_rmd17

CONTENT = np.random.default_rng(0).bytes(900_000)


class Handler(BaseHTTPRequestHandler):
    """Serves `files`; can break off, refuse ranges, and remembers what was asked."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    break_after: list[int] = []  # noqa: RUF012
    ranges = True
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        body = self.files.get(self.path.lstrip("/"))
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        if body is None:
            self.send_error(404, "Not Found")
            return
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if wanted and self.ranges else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = start + self.break_after.pop(0) if self.break_after else len(body)
        self.wfile.write(body[start:stop])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A local server and its handler class, fresh for each test."""
    handler = type("Fresh", (Handler,), {"files": {}, "break_after": [], "asked": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{http.server_port}/"
    yield handler
    http.shutdown()
    http.server_close()
    thread.join()


class TestDownload:
    def test_whole(self, server, tmp_path):
        server.files["a.bin"] = CONTENT
        seen = []
        path = download(
            server.url + "a.bin", tmp_path / "new" / "a.bin", progress=lambda *x: seen.append(x)
        )
        assert path.read_bytes() == CONTENT
        assert seen[-1] == (900_000, 900_000, "a.bin")
        assert [p.name for p in path.parent.iterdir()] == ["a.bin"]

    def test_a_broken_connection_is_continued(self, server, tmp_path):
        server.files["a.bin"] = CONTENT
        server.break_after[:] = [300_000, 300_000]
        download(server.url + "a.bin", tmp_path / "a.bin")
        assert (tmp_path / "a.bin").read_bytes() == CONTENT
        assert server.asked == [None, "bytes=300000-", "bytes=600000-"]

    def test_the_next_call_continues(self, server, tmp_path):
        server.files["a.bin"] = CONTENT
        server.break_after[:] = [300_000]
        with pytest.raises(OSError, match=r"failed after 1 tries .* try again"):
            download(server.url + "a.bin", tmp_path / "a.bin", attempts=1)
        assert not (tmp_path / "a.bin").exists()
        assert (tmp_path / "a.bin.part").stat().st_size == 300_000
        download(server.url + "a.bin", tmp_path / "a.bin", attempts=1)
        assert (tmp_path / "a.bin").read_bytes() == CONTENT
        assert server.asked == [None, "bytes=300000-"]

    def test_a_server_without_ranges_starts_anew(self, server, tmp_path):
        server.files["a.bin"] = CONTENT
        server.ranges = False
        (tmp_path / "a.bin.part").write_bytes(b"rubbish")
        download(server.url + "a.bin", tmp_path / "a.bin")
        assert (tmp_path / "a.bin").read_bytes() == CONTENT

    def test_a_whole_part_is_taken(self, server, tmp_path):
        server.files["a.bin"] = CONTENT
        (tmp_path / "a.bin.part").write_bytes(CONTENT)
        assert download(server.url + "a.bin", tmp_path / "a.bin").read_bytes() == CONTENT

    def test_a_part_that_is_too_long_is_dropped(self, server, tmp_path):
        server.files["a.bin"] = CONTENT
        (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
        assert download(server.url + "a.bin", tmp_path / "a.bin").read_bytes() == CONTENT

    def test_refused(self, server, tmp_path):
        with pytest.raises(OSError, match="the server answers 404 Not Found; fetch the file by ha"):
            download(server.url + "b.bin", tmp_path / "b.bin")
        with pytest.raises(OSError, match=r"failed after 2 tries .* or fetch the file by hand and"):
            download("http://127.0.0.1:1/x", tmp_path / "b.bin", attempts=2)


class TestFind:
    def npz(self):
        file = io.BytesIO()
        rng = np.random.default_rng(0)
        np.savez(
            file,
            nuclear_charges=np.array([8, 1, 1]),
            coords=rng.normal(size=(3, 3, 3)),
            energies=np.full(3, -47000.0),
            forces=rng.normal(size=(3, 3, 3)),
        )
        return file.getvalue()

    def test_folder_before_download(self, tmp_path, monkeypatch):
        (tmp_path / "rmd17").mkdir()
        file = tmp_path / "rmd17" / "rmd17_ethanol_test_01.npz"
        file.write_bytes(self.npz())
        assert find_rmd17("rmd17:ethanol:test", tmp_path) == (file, "PBE/def2-SVP")
        monkeypatch.setenv("DREIBEIN_DATA", str(tmp_path))
        assert find_rmd17("rmd17:ethanol:test:01")[0] == file
        data = load_data(DataConfig(sources="rmd17:ethanol:test"))
        assert data.provenance["level_of_theory"] == "PBE/def2-SVP"

    def test_a_split_is_fetched(self, server, tmp_path):
        server.files["rmd17_uracil_train_03.npz"] = self.npz()
        path, _ = find_rmd17("rmd17:uracil:train:03", tmp_path, split_url=server.url)
        assert path.read_bytes() == self.npz()
        find_rmd17("rmd17:uracil:train:03", tmp_path, split_url="http://127.0.0.1:1/")
        assert len(server.asked) == 1

    def test_a_trajectory_comes_from_the_archive(self, server, tmp_path):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:bz2") as tar:
            member = tarfile.TarInfo("rmd17/npz_data/rmd17_benzene.npz")
            member.size = len(self.npz())
            tar.addfile(member, io.BytesIO(self.npz()))
        server.files["all"] = archive.getvalue()
        path, _ = find_rmd17("rmd17:benzene", tmp_path, archive_url=server.url + "all")
        assert path.read_bytes() == self.npz()
        with pytest.raises(ValueError, match=r"holds no rmd17_toluene.npz; delete it to download"):
            find_rmd17("rmd17:toluene", tmp_path)
        broken = tmp_path / "rmd17" / "rmd17.tar.bz2"
        broken.write_bytes(broken.read_bytes()[:300])
        with pytest.raises(
            ValueError, match=r"not a whole archive .*; delete it to download it an"
        ):
            find_rmd17("rmd17:aspirin", tmp_path)

    def test_names(self):
        with pytest.raises(
            ValueError, match=r"rMD17 has no molecule 'etanol'; did you mean 'rmd17:ethanol'?"
        ):
            find_rmd17("rmd17:etanol")
        with pytest.raises(ValueError, match="rMD17 has no molecule 'xx'; it has aspirin, azobenz"):
            find_rmd17("rmd17:xx")
        with pytest.raises(ValueError, match="a split is train or test and 01 to 05, as in 'rmd17"):
            find_rmd17("rmd17:uracil:train:9")

    def test_default_folder(self, monkeypatch, tmp_path):
        monkeypatch.delenv("DREIBEIN_DATA", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert data_folder() == tmp_path / "dreibein"
        assert not data_folder().exists()

    def test_shared_split(self, shared):
        data = load_data(DataConfig(sources="rmd17:uracil:test", folder=shared / "data"))
        assert len(data) == 1000
