"""Images are as they should be, prepared from the original files, checked each time."""

import hashlib
import io
import math
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from maestro import datasets
from maestro.datasets import DataError, images, originals, prepared
from maestro.paths import data_folder


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


def test_mirroring_alternates_from_epoch_to_epoch():
    """Pictures without rows and columns of their own: a crop changes nothing."""
    pixels = torch.arange(8 * 6 * 3).view(8, 1, 6, 3).expand(8, 6, 6, 3).byte().numpy()
    arrays = {f"{split}_images": pixels for split in ("train", "test")}
    arrays |= {f"{split}_labels": np.arange(8) for split in ("train", "test")}
    one = (0, 0, 0), (1, 1, 1)
    task = datasets.ImageTask(arrays, *one, crop=1, frame="edge", alternate=True)

    def mirrored(epoch, seed):
        x, y = next(task.epoch(8, 10 + epoch, turn=(seed, epoch)))
        falling = (x[:, 0, 0, 0] > x[:, 0, 0, -1]).tolist()
        return dict(zip(y.tolist(), falling, strict=True))

    first = mirrored(0, seed=1)
    assert len(set(first.values())) == 2
    assert mirrored(1, seed=1) == {i: not now for i, now in first.items()}
    assert mirrored(2, seed=1) == first != mirrored(0, seed=2)


def test_a_frame_can_reflect_and_the_first_images_are_without_it(little_pictures):
    arrays = {
        f"{split}_{part}": little_pictures.test[i].numpy()
        for split in ("train", "test")
        for i, part in enumerate(("images", "labels"))
    }
    task = datasets.ImageTask(arrays, (0, 0, 0), (1, 1, 1), crop=2, frame="reflect")
    framed, inner = task.train[0], task.test[0]
    assert torch.equal(framed[:, 0, 2:-2], inner[:, 2])
    assert torch.equal(framed[:, 2:-2, -1], inner[:, :, -3])
    assert torch.equal(task.first(5), task.normalised(inner[:5]))


def test_channels_can_stay_last_in_memory(few_digits, little_pictures):
    little_pictures.channels_last = True
    x, _ = next(little_pictures.epoch(8, seed=0))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert not x.is_contiguous()


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


# ---------------------------------------------------------------- damage


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The data folder, empty."""
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_mnist(folder, monkeypatch):
    """(path, arrays) of a mnist.npz of 9 images, without a fingerprint of its own."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 6), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28, 1), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n, dtype=np.uint8)
    fingerprint = datasets.fingerprint(arrays)
    monkeypatch.setattr(originals, "MNIST_FINGERPRINT", fingerprint)
    np.savez(folder / "mnist.npz", **arrays)
    return folder / "mnist.npz", arrays


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
def test_damaged_data_are_refused_by_name(kind, small_mnist):
    path, arrays = small_mnist
    assert datasets.load("mnist").test[1].tolist() == [0, 1, 2]
    damage(kind, path, arrays)
    with pytest.raises(DataError, match=r"mnist.npz is damaged \(.+\); delete it"):
        datasets.load("mnist")
    with pytest.raises(DataError, match=r"mnist.npz is damaged \(.+\); delete it"):
        datasets.prepare_mnist(path.parent, progress=False)


def test_a_fingerprint_of_its_own_is_taken_and_checked(tmp_path, small_mnist):
    path, arrays = tmp_path / "other.npz", small_mnist[1]
    prepared.write(path, arrays, datasets.fingerprint)
    again = prepared.read(path, None, datasets.fingerprint)
    assert again.keys() == arrays.keys()
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays)
    with np.load(path) as file:
        changed = dict(file)
    changed["test_labels"][0] += 1
    np.savez(path, **changed)
    with pytest.raises(DataError, match="other.npz is damaged .its sha256 is .*, not"):
        prepared.read(path, None, datasets.fingerprint)
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="sha256 is .*, not known"):
        prepared.read(path, None, datasets.fingerprint)


# ---------------------------------------------------------------- CIFAR-10


def cifar10_arrays():
    """Two images a batch, no two alike."""
    rng = np.random.default_rng(2)
    return {
        "train_images": rng.integers(0, 256, (10, 32, 32, 3), np.uint8),
        "train_labels": np.arange(10, dtype=np.uint8),
        "test_images": rng.integers(0, 256, (2, 32, 32, 3), np.uint8),
        "test_labels": np.array([3, 9], np.uint8),
    }


def cifar10_archive(path, kind, arrays):
    """The original file in small, as its makers describe it; returns its md5."""
    batches = {
        f"data_batch_{i + 1}": [
            arrays[f"train_{part}"][2 * i : 2 * i + 2] for part in PARTS
        ]
        for i in range(5)
    }
    batches["test_batch"] = [arrays[f"test_{part}"] for part in PARTS]
    folder = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}[kind]
    with tarfile.open(path, "w:gz") as archive:
        add(archive, f"{folder}/batches.meta", b"names")
        for name, (images, labels) in reversed(batches.items()):
            rows = images.transpose(0, 3, 1, 2).reshape(2, 3072)
            if kind == "python":
                batch = {b"labels": labels.tolist(), b"data": rows}
                add(archive, f"{folder}/{name}", pickle.dumps(batch, protocol=2))
            else:
                content = np.concatenate((labels[:, None], rows), 1).tobytes()
                add(archive, f"{folder}/{name}.bin", content)
    return hashlib.md5(path.read_bytes()).hexdigest()


PARTS = ("images", "labels")


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def cifar10_file(folder, monkeypatch):
    """Puts the small original of a kind in the folder, which is the one asked for."""
    for kind, source in originals.CIFAR10.items():
        monkeypatch.setitem(originals.CIFAR10, kind, replace(source, mirrors=()))

    def put(kind):
        path = folder / originals.CIFAR10[kind].name
        md5 = cifar10_archive(path, kind, cifar10_arrays())
        source = replace(originals.CIFAR10[kind], md5=md5)
        monkeypatch.setitem(originals.CIFAR10, kind, source)
        return path

    return put


@pytest.mark.parametrize("kind", ["python", "binary"])
def test_cifar10_is_made_of_either_original(kind, cifar10_file, folder):
    path = cifar10_file(kind)
    assert not datasets.available("cifar10")
    assert datasets.prepare_cifar10(progress=False) == folder / "cifar10.npz"
    assert path.is_file()  # it was put there by hand
    assert datasets.available("cifar10")
    task, arrays = datasets.load("cifar10"), cifar10_arrays()
    assert torch.equal(task.test[0], torch.from_numpy(arrays["test_images"]))
    inner = task.train[0][:, 4:-4, 4:-4]
    assert torch.equal(inner, torch.from_numpy(arrays["train_images"]))
    assert task.train[1].tolist() == list(range(10)) and task.test[1].tolist() == [3, 9]
    assert task.fingerprint == datasets.fingerprint(arrays)
    assert next(task.epoch(4, seed=0))[0].shape == (4, 3, 32, 32)
    path.unlink()
    assert datasets.prepare_cifar10(progress=False) == folder / "cifar10.npz"


def test_cifar10_from_a_damaged_original_is_refused(cifar10_file, folder):
    path = cifar10_file("python")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="cifar-10-python.tar.gz exists but is damaged"):
        datasets.prepare_cifar10(progress=False)
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_cifar10_without_any_original_says_which_to_fetch(cifar10_file, folder):
    with pytest.raises(DataError, match="cifar-10-python.tar.gz could not .* by hand"):
        datasets.prepare_cifar10(progress=False)
    with pytest.raises(DataError, match="cifar10.npz is missing; .*data cifar10"):
        datasets.load("cifar10")


def test_the_real_cifar10_is_as_it_should_be():
    if not datasets.available("cifar10"):
        pytest.skip(
            f"no cifar10.npz in {data_folder()}: python -m maestro data cifar10"
        )
    with np.load(data_folder() / "cifar10.npz") as file:
        images, labels = file["test_images"], file["test_labels"]
    assert images.shape == (10_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [1000] * 10
    means = images.mean((0, 1, 2)) / 255
    assert means == pytest.approx((0.4942, 0.4851, 0.4504), abs=2e-4)


# ---------------------------------------------------------------- Imagenette


def pictures():
    """{split/class/name: pixels}: a 64x64 square amid a white frame, on two sides."""
    rng = np.random.default_rng(3)
    made = {}
    for split, wnid, name in (
        ("train", "n02", "a.png"),
        ("train", "n01", "b.png"),
        ("train", "n01", "a.PNG"),
        ("val", "n01", "c.png"),
        ("val", "n02", "a.png"),
    ):
        square = rng.integers(0, 255, (64, 64, 3), np.uint8)
        frame = (
            ((0, 0), (16, 16), (0, 0)) if name == "a.png" else ((7, 7),) + 2 * ((0, 0),)
        )
        made[f"{split}/{wnid}/{name}"] = (
            square,
            np.pad(square, frame, constant_values=255),
        )
    return made


@pytest.fixture
def tree(folder):
    """imagenette144 in small, with files that are no pictures in it."""
    root = folder / "imagenette144"
    for name, (_, pixels) in pictures().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name, format="png")
    (root / "train" / "n01" / "notes.txt").write_text("no picture")
    (root / "notes.csv").write_text("no picture")
    return root


def check_imagenette(task):
    square = {name: torch.from_numpy(both[0]) for name, both in pictures().items()}
    names = [f"train/{name}" for name in ("n01/a.PNG", "n01/b.png", "n02/a.png")]
    assert task.train[1].tolist() == [0, 0, 1] and task.test[1].tolist() == [0, 1]
    for pixels, name in zip(task.train[0][:, 8:-8, 8:-8], names, strict=True):
        assert torch.equal(pixels, square[name]), name
    assert torch.equal(task.test[0][0], square["val/n01/c.png"])
    assert task.example.shape == (1, 3, 64, 64) and task.classes == 2


def test_imagenette_is_made_of_its_pictures_when_it_is_loaded(tree, folder):
    assert not datasets.available("imagenette64")
    first = datasets.load("imagenette64")
    check_imagenette(first)
    assert datasets.available("imagenette64")
    for path in tree.rglob("*.png"):
        path.unlink()  # what is prepared is enough
    assert datasets.load("imagenette64").fingerprint == first.fingerprint


def test_imagenette_is_made_of_the_original_file(tree, folder, monkeypatch):
    path = folder / "imagenette2-160.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(tree.rglob("*.*"), reverse=True):  # in an order of its own
            archive.add(file, f"imagenette2-160/{file.relative_to(tree)}")
    tree.rename(folder / "elsewhere")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    source = replace(originals.IMAGENETTE, md5=md5, mirrors=())
    monkeypatch.setattr(originals, "IMAGENETTE", source)
    with pytest.raises(DataError, match="imagenette64.npz is missing; .*imagenette64"):
        datasets.load("imagenette64")
    assert datasets.PREPARE["imagenette64"]() == folder / "imagenette64.npz"
    check_imagenette(datasets.load("imagenette64"))


def test_a_larger_picture_is_resized(folder):
    for name in ("train/n01/a.jpg", "val/n01/a.jpg"):
        path = folder / "imagenette2-160" / name
        path.parent.mkdir(parents=True)
        halves = np.zeros((160, 240), np.uint8)  # grey: it gets its three colours
        halves[:, 120:] = 200
        Image.fromarray(halves).save(path)
    image = datasets.load("imagenette64").test[0][0].float()
    assert image.shape == (64, 64, 3)
    assert image[:, :28].mean() < 8 and abs(image[:, 36:].mean() - 200) < 8


def test_a_damaged_picture_is_named(tree, folder):
    (tree / "val" / "n02" / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="n02/a.png is damaged"):
        datasets.prepare_imagenette64(progress=False)
    assert not datasets.available("imagenette64")


def test_pictures_without_validation_are_refused(tree):
    (tree / "val").rename(tree / "valid")
    with pytest.raises(DataError, match="imagenette144 holds no pictures val/"):
        datasets.load("imagenette64")


def test_six_views_are_the_image_two_shifts_and_their_mirror_images():
    """A model that reads one pixel: with the mirror image its counterpart, too."""
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    seen = images.six_views(lambda x: x[:, :, 1, 0])(x)[:, 0]
    one, other = x[:, 0, :, 0], x[:, 0, :, 3]
    # shifted up and left row 2 and column 1 are there; down and right row 0, column 1
    # reflected, and on the far side columns 2 reflected and 2
    expected = (one[:, 1] + other[:, 1]) / 4
    expected += (x[:, 0, 2, 1] + x[:, 0, 2, 2]) / 8 + (
        x[:, 0, 0, 1] + x[:, 0, 0, 2]
    ) / 8
    assert torch.allclose(seen, expected)
