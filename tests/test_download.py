"""Files come whole and right from whichever mirror has them, or not at all."""

import gzip
import hashlib
import http.server
import os
import threading

import numpy as np
import pytest
import torch

from maestro import datasets
from maestro.datasets import DataError, Source, originals
from maestro.datasets.download import fetch
from maestro.system import DiskError

SIZES = {"train": 6, "test": 3}


def small_arrays():
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in SIZES.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28, 1), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n, dtype=np.uint8)
    return arrays


def packed(part, array):
    """``array`` as one of MNIST's four files: a header, the bytes, gzip."""
    header = bytes(16 if part.endswith("images") else 8)
    return gzip.compress(header + array.tobytes())


class Mirror(http.server.BaseHTTPRequestHandler):
    """/right/NAME sends the file, /resumes/NAME the part of it that is asked for.

    The other folders go wrong in ways of their own.
    """

    def do_GET(self):
        _, kind, name = self.path.split("/")
        self.server.asked.append(self.path)
        content = self.server.files[name]
        if kind == "resumes":
            return self.send_rest(content)
        if kind == "missing":
            return self.send_error(404)
        if kind == "nonsense":
            return self.wfile.write(b"HTTP/what 200\r\n\r\n")
        if kind == "hangs_up":
            return None
        body = {
            "right": content,
            "truncated": content[: len(content) // 2],
            "not_packed": b"<html>please log in</html>",
            "damaged": content[:11] + bytes(5) + content[16:],
            "another": gzip.compress(b"another file"),
        }[kind]
        length = len(content if kind == "truncated" else body)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def send_rest(self, content):
        """As a web server that knows ranges: 206 and the rest, or 416 without any."""
        asked = self.headers.get("Range", "bytes=0-")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A web server with the small files, the only mirrors; data go to tmp_path."""
    arrays = small_arrays()
    names = {part: datasets.MNIST[part].name for part in datasets.MNIST}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.asked, server.ranges, server.arrays = [], [], arrays
        server.files = {names[part]: packed(part, arrays[part]) for part in names}
        server.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def mirrors(*kinds):
            where = tuple(f"{server.url}{kind}/" for kind in kinds)
            for part, name in names.items():
                raw = gzip.decompress(server.files[name])
                source = Source(name, hashlib.md5(raw).hexdigest(), where)
                monkeypatch.setitem(datasets.MNIST, part, source)

        server.mirrors = mirrors
        mirrors("right")
        fingerprint = datasets.fingerprint(arrays)
        monkeypatch.setattr(originals, "MNIST_FINGERPRINT", fingerprint)
        monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server
        server.shutdown()
        thread.join()


def prepared(folder):
    return datasets.prepare_mnist(folder, progress=False)


def test_what_is_fetched_is_what_is_loaded(server, tmp_path):
    assert not datasets.available("mnist")
    assert prepared(None) == tmp_path / "mnist.npz"
    assert datasets.available("mnist")
    task = datasets.load("mnist")
    images = torch.from_numpy(server.arrays["train_images"])
    assert torch.equal(task.train[0], images)
    expected = (images.permute(0, 3, 1, 2) / 255 - 0.1307) / 0.3081
    assert torch.allclose(task.normalised(task.train[0]), expected, atol=1e-6)
    assert task.test[1].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.npz"]


def test_a_folder_that_is_not_there_is_made(server, tmp_path):
    folder = tmp_path / "a" / "b"
    assert prepared(str(folder)) == folder / "mnist.npz"


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    prepared(tmp_path)
    server.asked.clear()
    assert prepared(tmp_path) == tmp_path / "mnist.npz"
    assert server.asked == []


BAD = ("missing", "nonsense", "hangs_up", "truncated", "not_packed", "damaged")
BAD += ("another",)


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_mirror_is_passed_over(bad, server, tmp_path):
    server.mirrors(bad, "right")
    prepared(tmp_path)
    assert datasets.load("mnist").fingerprint == originals.MNIST_FINGERPRINT
    kinds = [path.split("/")[1] for path in server.asked]
    assert kinds == [bad, "right"] * 4


def test_without_any_good_mirror_the_error_says_where_and_what_to_do(server, tmp_path):
    server.mirrors(*BAD)
    with pytest.raises(DataError) as caught:
        prepared(tmp_path)
    message = str(caught.value)
    assert message.startswith("train-images-idx3-ubyte.gz could not be fetched")
    for bad in BAD:
        assert f"{server.url}{bad}/" in message
    assert f"by hand, put it into {tmp_path}" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_file_put_there_by_hand_is_taken(server, tmp_path):
    server.mirrors("missing")
    for name, content in server.files.items():
        (tmp_path / name).write_bytes(content)
    prepared(tmp_path)
    assert server.asked == []
    assert datasets.load("mnist").train[1].tolist() == list(range(6))


def test_a_damaged_file_put_there_by_hand_is_named(server, tmp_path):
    name = "t10k-labels-idx1-ubyte.gz"
    (tmp_path / name).write_bytes(server.files[name][:-9])
    prepared(tmp_path)  # the mirror has it
    (tmp_path / "mnist.npz").unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"nothing")
    server.mirrors("missing")
    with pytest.raises(DataError, match="ubyte.gz exists but is damaged .*missing"):
        prepared(tmp_path)


def test_progress_can_be_off(server, tmp_path, capsys):
    prepared(tmp_path)
    assert capsys.readouterr() == ("", "")
    (tmp_path / "mnist.npz").unlink()
    datasets.prepare_mnist(tmp_path)
    assert "train-images-idx3-ubyte.gz" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(server, tmp_path, monkeypatch):
    replace = os.replace

    def full(part, target):
        if target.name == "mnist.npz":
            raise OSError(28, "No space left on device")
        replace(part, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        why = "mnist.npz cannot be written: No space left on device; free some space"
        with pytest.raises(DiskError, match=why):
            prepared(tmp_path)
    # what was fetched is whole, and is not fetched again
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == server.files
    server.mirrors("missing")
    prepared(tmp_path)
    assert datasets.load("mnist").test[1].tolist() == [0, 1, 2]


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_fetched(
    server, tmp_path
):
    (tmp_path / "taken").write_text("")
    with pytest.raises(
        DiskError, match="taken cannot be written: .*; move the file th"
    ):
        prepared(tmp_path / "taken")
    assert server.asked == []


def test_missing_data_says_how_to_get_them(server, tmp_path):
    with pytest.raises(DataError, match="mnist.npz is missing; .*maestro data mnist"):
        datasets.load("mnist")


# ---------------------------------------------------------------- going on


CONTENT = np.random.default_rng(1).bytes(200_000)


@pytest.fixture
def big(server):
    """(server, source): a file that is not packed, on a mirror that knows ranges."""
    server.files["big.bin"] = CONTENT

    def source(*kinds):
        mirrors = tuple(f"{server.url}{kind}/" for kind in kinds)
        md5 = hashlib.md5(CONTENT).hexdigest()
        return Source("big.bin", md5, mirrors, gzipped=False)

    return server, source


def got(source, folder):
    path = fetch(source, folder, progress=False)
    assert path == folder / "big.bin" and path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ["big.bin"]


def test_a_broken_download_is_kept_and_gone_on_with(big, tmp_path):
    server, source = big
    with pytest.raises(DataError, match="broke after 100,000 of 200,000 bytes"):
        fetch(source("truncated"), tmp_path, progress=False)
    assert (tmp_path / "big.bin.part").read_bytes() == CONTENT[:100_000]
    got(source("resumes"), tmp_path)
    assert server.ranges == ["bytes=100000-"]


def test_the_next_mirror_goes_on_where_one_broke_off(big, tmp_path):
    server, source = big
    got(source("truncated", "missing", "resumes"), tmp_path)
    assert server.ranges == ["bytes=100000-"]


def test_a_mirror_that_knows_no_ranges_starts_anew(big, tmp_path):
    server, source = big
    (tmp_path / "big.bin.part").write_bytes(CONTENT[:70_000])
    got(source("right"), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        (b"wrong" + CONTENT[5:70_000], ["bytes=70000-", "bytes=0-"]),
        (CONTENT + b"more", ["bytes=200004-", "bytes=0-"]),
        (b"", ["bytes=0-"]),
        (CONTENT, []),  # killed between the last byte and the name
    ],
)
def test_what_a_killed_download_left_is_checked(part, asked, big, tmp_path):
    server, source = big
    (tmp_path / "big.bin.part").write_bytes(part)
    got(source("resumes"), tmp_path)
    assert server.ranges == asked


def test_the_wrong_file_is_thrown_away(big, tmp_path):
    server, source = big
    with pytest.raises(DataError, match="md5 differs"):
        fetch(source("damaged"), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == [] and len(server.asked) == 1


def test_a_file_that_is_not_packed_is_compared_as_it_is(big, tmp_path):
    _, source = big
    (tmp_path / "big.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(
        DataError, match="big.bin exists but is damaged .its md5 is not"
    ):
        fetch(source(), tmp_path)
    (tmp_path / "big.bin").write_bytes(CONTENT)
    got(source(), tmp_path)


def test_the_bar_starts_where_the_download_does(big, tmp_path, capsys):
    _, source = big
    (tmp_path / "big.bin.part").write_bytes(CONTENT[:150_000])
    fetch(source("resumes"), tmp_path)
    assert "75%" in capsys.readouterr().err
