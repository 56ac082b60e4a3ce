"""Data are checked each time, and fetched from whichever mirror has the right file."""

import gzip
import hashlib
import http.server
import math
import threading

import numpy as np
import pytest
import torch

from maestro import datasets
from maestro.datasets import DataError, Source

# ---------------------------------------------------------------- what is loaded


def test_the_digits_are_as_they_should_be(digits):
    (images, labels), (test_images, _) = digits.train, digits.test
    assert images.shape == (1437, 28, 28, 1) and test_images.shape == (360, 28, 28, 1)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.unique().tolist() == list(range(10))
    assert len(digits) == 1437 and digits.classes == 10
    assert digits.example.shape == (1, 1, 28, 28) and not digits.example.any()
    assert digits.fingerprint.startswith("f02bf25450f4")


def test_a_digit_is_tripled_framed_and_normalised(digits):
    from sklearn.datasets import load_digits

    raw = load_digits()
    # every fifth is a test image: the second training image is the third of all
    image = digits.normalised(digits.train[0])[1, 0] * 0.3081 + 0.1307
    expected = torch.tensor(raw.images[2]) * 255 / 16
    assert digits.train[1][1] == raw.target[2]
    assert digits.test[1][1] == raw.target[5]
    for row, column in ((1, 1), (2, 3), (7, 7)):
        block = image[2 + 3 * row :, 2 + 3 * column :][:3, :3] * 255
        assert (block - expected[row, column].round()).abs().max() < 1e-3
    frame = image.clone()
    frame[2:26, 2:26] = 0
    assert frame.abs().max() < 1e-6


def test_the_real_mnist_is_as_it_should_be(mnist):
    assert mnist.train[0].shape == (60_000, 28, 28, 1)
    assert mnist.test[0].shape == (10_000, 28, 28, 1)
    assert mnist.fingerprint == datasets.MNIST_FINGERPRINT
    assert mnist.train[1][:5].tolist() == [5, 0, 4, 1, 9]
    x = mnist.normalised(mnist.train[0])
    assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3


def test_an_epoch_leaves_nothing_out_in_an_order_of_its_own(few_digits):
    batches = list(few_digits.epoch(64, seed=1))
    assert [len(labels) for _, labels in batches] == [64, 64, 22]
    seen, whole = torch.cat([x for x, _ in batches]), few_digits.train[0]
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    assert torch.equal(seen, few_digits.normalised(whole[order]))
    assert torch.equal(torch.cat([y for _, y in batches]), few_digits.train[1][order])
    other = next(few_digits.epoch(64, seed=2))
    assert not torch.equal(other[0], batches[0][0])


def test_an_epoch_is_taken_up_where_it_was(few_digits):
    whole = list(few_digits.epoch(64, seed=1))
    rest = list(few_digits.epoch(64, seed=1, done=2))
    assert len(rest) == 1 and torch.equal(rest[0][0], whole[2][0])
    assert list(few_digits.epoch(64, seed=1, done=3)) == []


@pytest.fixture
def little_pictures():
    """8 pictures of 6x6 in 3 colours, no two pixels alike, framed by 2 for cropping."""
    pixels = torch.arange(8 * 6 * 6 * 3).view(8, 6, 6, 3) % 251 + 1
    arrays = {f"{split}_images": pixels.byte().numpy() for split in ("train", "test")}
    arrays |= {f"{split}_labels": np.arange(8) for split in ("train", "test")}
    return datasets.ImageTask(arrays, (0, 0, 0), (1, 1, 1), crop=2)


def test_cropping_and_mirroring_are_those_of_one_image_at_a_time(little_pictures):
    framed, labels = little_pictures.train
    x, y = next(little_pictures.epoch(8, seed=3))
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(8, generator=generator)
    down, right = torch.randint(5, (2, 8), generator=generator)
    mirrored = torch.rand(8, generator=generator) < 0.5
    assert mirrored.any() and not mirrored.all()
    for i, picked in enumerate(order.tolist()):
        top, left = down[picked], right[picked]
        crop = framed[picked, top : top + 6, left : left + 6].permute(2, 0, 1)
        crop = crop.flip(2) if mirrored[picked] else crop
        assert torch.equal(x[i], crop / 255) and y[i] == labels[picked]


def test_test_images_are_never_cropped(little_pictures):
    assert little_pictures.test[0].shape == (8, 6, 6, 3)
    assert little_pictures.train[0].shape == (8, 10, 10, 3)
    assert little_pictures.example.shape == (1, 3, 6, 6)


def test_evaluation_counts_each_test_image_once(few_digits):
    class Ones(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.one_hot(torch.ones(len(x)).long(), 10).float()

    figures = few_digits.evaluate(Ones(), batch_size=33)
    ones = (few_digits.test[1] == 1).double().mean().item()
    loss = math.log(math.e + 9) - ones
    assert figures["test_accuracy"] == pytest.approx(100 * ones)
    assert figures["test_loss"] == pytest.approx(loss, rel=1e-6)


def test_an_unknown_task_is_told_which_there_are():
    with pytest.raises(ValueError, match="task='mnits'; it is one of mnist, digits"):
        datasets.load("mnits")
    assert not datasets.available("mnits")


# ---------------------------------------------------------------- a small "MNIST"

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
    """/right/NAME sends the file; the other folders go wrong in ways of their own."""

    def do_GET(self):
        _, kind, name = self.path.split("/")
        self.server.asked.append(self.path)
        content = self.server.files[name]
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
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A web server with the small files, the only mirrors; data go to tmp_path."""
    arrays = small_arrays()
    names = {part: datasets.MNIST[part].name for part in datasets.MNIST}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.asked, server.arrays = [], arrays
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
        monkeypatch.setattr(datasets, "MNIST_FINGERPRINT", fingerprint)
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
    assert datasets.load("mnist").fingerprint == datasets.MNIST_FINGERPRINT
    kinds = [path.split("/")[1] for path in server.asked]
    assert kinds == [bad, "right"] * 4


def test_without_any_good_mirror_the_error_says_where_and_what_to_do(server, tmp_path):
    server.mirrors(*BAD)
    with pytest.raises(DataError) as caught:
        prepared(tmp_path)
    message = str(caught.value)
    assert message.startswith("train-images-idx3-ubyte.gz could not be had")
    for bad in BAD:
        assert f"{server.url}{bad}/" in message
    assert f"by hand, put it in {tmp_path}" in message
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
    with pytest.raises(DataError, match="ubyte.gz is there but damaged .*missing"):
        prepared(tmp_path)


def test_progress_can_be_off(server, tmp_path, capsys):
    prepared(tmp_path)
    assert capsys.readouterr() == ("", "")
    (tmp_path / "mnist.npz").unlink()
    datasets.prepare_mnist(tmp_path)
    assert "train-images-idx3-ubyte.gz" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(server, tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        prepared(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- damage


def test_missing_data_says_how_to_get_them(server, tmp_path):
    with pytest.raises(DataError, match="mnist.npz is not there; .*maestro data mnist"):
        datasets.load("mnist")


def damage(name, path, arrays):
    content = path.read_bytes()
    middle = len(content) // 2
    if name == "one pixel":
        arrays["train_images"][0, 0, 0, 0] ^= 1
        return np.savez(path, **arrays)
    if name == "no labels":
        del arrays["test_labels"]
        return np.savez(path, **arrays)
    if name == "one array":
        with open(path, "wb") as file:
            return np.save(file, arrays["train_images"])
    return path.write_bytes(
        {
            "cut off": content[:middle],
            "empty": b"",
            "text": b"<html>please log in</html>",
            "overwritten": content[:middle] + bytes(99) + content[middle + 99 :],
        }[name]
    )


KINDS = ("one pixel", "no labels", "one array", "cut off", "empty", "text")
KINDS += ("overwritten",)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_data_are_refused_by_name(kind, server, tmp_path):
    path = prepared(tmp_path)
    damage(kind, path, small_arrays())
    with pytest.raises(DataError, match=r"mnist.npz is damaged \(.+\); delete it"):
        datasets.load("mnist")
    with pytest.raises(DataError, match=r"mnist.npz is damaged \(.+\); delete it"):
        prepared(tmp_path)
