"""Hostile and damaged files are refused in one line; good ones give the right arrays."""

import contextlib
import gzip
import io
import lzma
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from redoubt.data import archives, cifar, idx, jpeg
from redoubt.data.sources import Source, SourceFile
from redoubt.errors import RedoubtError

LIMIT = 2**20


def tar(path, members, compress=gzip.compress):
    """Write an archive of (name, content) pairs or of whole `TarInfo`s."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    path.write_bytes(compress(buffer.getvalue()))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def refusal(callable_, *arguments):
    with pytest.raises(RedoubtError) as caught:
        result = callable_(*arguments)
        list(result)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_members_are_read_in_order_and_folders_are_passed_over(tmp_path, compress):
    path = tar(tmp_path / "a.part", [special("d", tarfile.DIRTYPE), ("d/b", b"2"), ("a", b"1")], compress)
    assert list(archives.members(path, LIMIT)) == [("d/b", b"2"), ("a", b"1")]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../evil", b"x"), "leaves the archive"),
        (("good/../../evil", b"x"), "leaves the archive"),
        (("/etc/evil", b"x"), "leaves the archive"),
        (("..\\evil", b"x"), "leaves the archive"),
        (special("evil", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (special("evil", tarfile.LNKTYPE, "good"), "a link"),
        (special("evil", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (special("evil", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (special("..", tarfile.DIRTYPE), "leaves the archive"),
        (("good", b"again"), "twice"),
    ],
)
def test_one_unsafe_member_condemns_the_archive(tmp_path, member, reason):
    path = tar(tmp_path / "a.tar.gz", [("good", b"1"), member])
    message = refusal(archives.members, path, LIMIT)
    assert reason in message and "refused" in message and message.startswith("a.tar.gz: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_a_bomb_is_refused_before_it_is_held_in_memory(tmp_path, compress):
    path = tar(tmp_path / "a", [("zeros", bytes(2 * LIMIT))], compress)
    assert "more than the expected" in refusal(archives.members, path, LIMIT)
    path = tmp_path / "b.gz"
    path.write_bytes(gzip.compress(bytes(1001)))
    assert "more than the expected 1000 bytes" in refusal(archives.gunzipped, path, 1000)
    assert sum(map(len, archives.gunzipped(path, 1001))) == 1001


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_every_truncation_of_an_archive_is_noticed(tmp_path, compress):
    whole = tar(tmp_path / "whole", [("a", bytes(range(256)) * 8), ("b", b"2")], compress).read_bytes()
    path = tmp_path / "cut"
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        message = refusal(archives.members, path, LIMIT)
        assert "truncated" in message or "damaged" in message, length


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_bytes_changed_within_the_compressed_data_are_noticed(tmp_path, compress):
    noise = np.random.default_rng(0).integers(0, 64, 20_000, np.uint8).tobytes()
    whole = tar(tmp_path / "whole", [("a", noise)], compress).read_bytes()
    path = tmp_path / "changed"
    for position in range(40, len(whole) - 40, len(whole) // 20):
        path.write_bytes(
            whole[:position] + bytes(byte ^ 255 for byte in whole[position:][:40]) + whole[position + 40 :]
        )
        assert "damaged" in refusal(archives.members, path, LIMIT)
        if compress is gzip.compress:
            assert "damaged" in refusal(archives.gunzipped, path, LIMIT)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_header_never_ends_in_a_traceback(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    info = tarfile.TarInfo("ä" * 120)
    info.pax_headers = {"comment": "x", "mtime": "1.5"}
    whole = bytearray(gzip.decompress(tar(folder / "whole", [info, ("b", b"2")]).read_bytes()))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 2200))] = data.draw(st.integers(0, 255))
    path = folder / "changed"
    path.write_bytes(gzip.compress(bytes(whole), 1))
    with contextlib.suppress(RedoubtError):
        list(archives.members(path, LIMIT))


@pytest.mark.parametrize("content", [b"", b"not gzip at all", b"\x1f\x8b\x08garbage and more of it"])
def test_what_is_no_gzip_is_told_so(tmp_path, content):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    if content:
        assert refusal(archives.gunzipped, path, LIMIT).split(": ")[1] in ("damaged", "truncated")
    assert refusal(idx.read, path, (3,)).startswith("a.gz: ")


def write_idx(path, array, magic=None, sizes=None):
    sizes = array.shape if sizes is None else sizes
    head = struct.pack(f">{1 + len(sizes)}I", 0x800 | len(sizes) if magic is None else magic, *sizes)
    path.write_bytes(gzip.compress(head + array.tobytes(), 1))
    return path


@settings(max_examples=50, deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=5)))
def test_idx_round_trip(tmp_path_factory, array):
    path = write_idx(tmp_path_factory.getbasetemp() / "round.gz", array)
    read = idx.read(path, array.shape)
    assert read.dtype == np.uint8 and np.array_equal(read, array)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"magic": 0x803}, "wrong magic number 0x00000803; expected 0x00000801"),
        ({"magic": 0x0D01}, "wrong magic number"),
        ({"magic": 0x01080000}, "wrong magic number"),
        ({"sizes": (4,)}, "holds 4 values; expected 5"),
        ({"sizes": (6,)}, "holds 6 values; expected 5"),
    ],
)
def test_idx_with_wrong_magic_or_count_is_refused(tmp_path, change, reason):
    path = write_idx(tmp_path / "a.gz", np.arange(5, dtype=np.uint8), **change)
    assert reason in refusal(idx.read, path, (5,))


def test_idx_of_the_wrong_length_is_refused(tmp_path):
    five = np.arange(5, dtype=np.uint8)
    assert "its header promises 13" in refusal(idx.read, write_idx(tmp_path / "a", five[:4], sizes=(5,)), (5,))
    six = write_idx(tmp_path / "b", np.arange(6, dtype=np.uint8), sizes=(5,))
    assert "more than the expected" in refusal(idx.read, six, (5,))


IDX = Source(
    "mnist",
    "MNIST",
    (1, 4, 3),
    ("zero", "one"),
    {"train": 4, "test": 2},
    "idx",
    tuple(SourceFile(name) for name in ("train-images", "train-labels", "test-images", "test-labels")),
)


def idx_files(tmp_path, labels=(0, 1, 1, 0)):
    generator = np.random.default_rng(0)
    pixels = {"train-images": generator.integers(0, 256, (4, 4, 3), np.uint8)}
    pixels["test-images"] = generator.integers(0, 256, (2, 4, 3), np.uint8)
    content = {
        **pixels,
        "train-labels": np.array(labels, np.uint8),
        "test-labels": np.array([1, 0], np.uint8),
    }
    return content, {name: write_idx(tmp_path / name, array) for name, array in content.items()}


def test_idx_files_become_splits(tmp_path):
    content, paths = idx_files(tmp_path)
    splits = idx.unpack(IDX, paths)
    images, labels = splits["train"]
    assert images.shape == (4, 1, 4, 3) and np.array_equal(images[:, 0], content["train-images"])
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 1, 0]
    assert np.array_equal(splits["test"][0][:, 0], content["test-images"])
    assert splits["test"][1].tolist() == [1, 0]


def test_a_label_that_names_no_class_is_refused(tmp_path):
    assert "label 2 names none of 2 classes" in refusal(idx.unpack, IDX, idx_files(tmp_path, (0, 2, 0, 1))[1])


def cifar_source(name, train=10, test=3, classes=10):
    names = tuple(map(str, range(classes)))
    return Source(name, name, (3, 32, 32), names, {"train": train, "test": test}, "cifar", (SourceFile("a"),))


def records(count, labels_each, start=0):
    """Return records whose labels are (9, i) or (i,) and whose pixels are all different between channels."""
    pixels = np.arange(3072, dtype=np.int64) // 1024 * 50
    rows = [[9] * (labels_each - 1) + [(start + i) % 10, *((pixels + start + i) % 256)] for i in range(count)]
    return np.array(rows, np.uint8).tobytes()


def cifar10_members(train=2, test=3):
    folder = "cifar-10-batches-bin"
    batches = [(f"{folder}/data_batch_{n}.bin", records(train, 1, train * (n - 1))) for n in (3, 1, 2, 5, 4)]
    return [(f"{folder}/readme.html", b"<html>"), *batches, (f"{folder}/test_batch.bin", records(test, 1))]


def test_cifar10_records_are_joined_in_the_order_of_the_batches(tmp_path):
    path = tar(tmp_path / "a", cifar10_members())
    images, labels = cifar.unpack(cifar_source("cifar10"), {"a": path})["train"]
    assert labels.tolist() == list(range(10)) and labels.dtype == np.int64
    assert images.shape == (10, 3, 32, 32) and images.dtype == np.uint8
    assert [images[7, channel].min() for channel in range(3)] == [7, 57, 107]
    assert [images[7, channel].max() for channel in range(3)] == [7, 57, 107]


def test_cifar100_uses_the_fine_label(tmp_path):
    members = [("cifar-100-binary/train.bin", records(10, 2)), ("cifar-100-binary/test.bin", records(3, 2))]
    splits = cifar.unpack(cifar_source("cifar100"), {"a": tar(tmp_path / "a", members)})
    assert splits["train"][1].tolist() == list(range(10)) and splits["test"][1].tolist() == [0, 1, 2]
    assert splits["train"][0][0].min() == 0 and splits["train"][0][0].max() == 100


def test_cifar_with_a_wrong_length_or_count_is_refused(tmp_path):
    source, good = cifar_source("cifar10"), cifar10_members()
    cut = [*good[:-1], (good[-1][0], good[-1][1][:-1])]
    assert "9218 bytes, not whole 3073-byte records" in refusal(cifar.unpack, source, {"a": tar(tmp_path / "a", cut)})
    few = [*good[:-1], (good[-1][0], records(2, 1))]
    assert "2 test images; expected 3" in refusal(cifar.unpack, source, {"a": tar(tmp_path / "a", few)})
    assert "has no member" in refusal(cifar.unpack, source, {"a": tar(tmp_path / "a", good[:-1])})
    narrow = cifar_source("cifar10", classes=9)
    assert "label 9 names none" in refusal(cifar.unpack, narrow, {"a": tar(tmp_path / "a", good)})


JPEG = Source("cifar10-jpeg", "", (3, 8, 8), ("cat", "dog"), {"train": 4, "test": 2}, "jpeg", (SourceFile("a"),))


def picture(grey, size=(8, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "JPEG")
    return buffer.getvalue()


def jpeg_members():
    train = [
        (f"x/train/{name}/{n:04d}.jpg", picture(100 * n + 20 * k))
        for k, name in enumerate(("cat", "dog"))
        for n in (1, 0)
    ]
    return [*train, ("x/test/dog/0000.jpg", picture(7)), ("x/test/cat/0000.jpg", picture(3))]


def test_jpeg_pictures_are_ordered_by_number_and_then_class(tmp_path):
    splits = jpeg.unpack(JPEG, {"a": tar(tmp_path / "a", jpeg_members(), lzma.compress)})
    images, labels = splits["train"]
    assert images.shape == (4, 3, 8, 8) and labels.tolist() == [0, 1, 0, 1]
    assert images[:, 0, 0, 0].tolist() == [0, 20, 100, 120]
    assert splits["test"][0][:, 0, 0, 0].tolist() == [3, 7] and splits["test"][1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (("x/test/bird/0000.jpg", b""), "is not one of its pictures"),
        (("x/val/cat/0000.jpg", b""), "is not one of its pictures"),
        (("run.sh", b""), "is not one of its pictures"),
        (("x/test/cat/0001.jpg", picture(1)), "3 test images; expected 2"),
    ],
)
def test_jpeg_archive_with_something_else_is_refused(tmp_path, extra, reason):
    path = tar(tmp_path / "a", [*jpeg_members(), extra], lzma.compress)
    assert reason in refusal(jpeg.unpack, JPEG, {"a": path})


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"GIF89a", "cannot be read"), (picture(1)[:300], "cannot be read"), (picture(1, (9, 8)), "9x8 pixels")],
)
def test_a_damaged_picture_is_named(tmp_path, content, reason):
    path = tar(tmp_path / "a", [*jpeg_members()[:-1], ("x/test/cat/0000.jpg", content)], lzma.compress)
    message = refusal(jpeg.unpack, JPEG, {"a": path})
    assert "cat/0000.jpg" in message and reason in message
