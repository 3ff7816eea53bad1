"""Published datasets: round trip, refusal of what does not match, and data that need no download."""

import errno
import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from redoubt.data import digits, imagenet, store
from redoubt.data.sources import SOURCES
from redoubt.errors import RedoubtError

META = {"name": "tiny", "title": "Tiny", "shape": [3, 4, 5], "classes": ["a", "b"]}


def tiny(seed=0, train=6, test=3):
    generator = np.random.default_rng(seed)
    return {
        split: {
            "images": generator.integers(0, 256, (count, 3, 4, 5), np.uint8),
            "labels": generator.integers(0, 2, count),
        }
        for split, count in (("train", train), ("test", test))
    }


def state(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


@pytest.fixture
def folder(tmp_path):
    store.publish(tmp_path / "data" / "tiny", tiny(), META)
    return tmp_path / "data" / "tiny"


def test_round_trip(folder):
    for split, arrays in tiny().items():
        loaded = store.load(folder, split)
        assert len(loaded) == len(arrays["labels"]) and loaded.in_memory
        assert loaded.labels.dtype == torch.int64 and loaded.labels.tolist() == arrays["labels"].tolist()
        assert loaded.images().dtype == torch.uint8
        assert np.array_equal(loaded.images().numpy(), arrays["images"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "meta.json",
        "test.safetensors",
        "train.safetensors",
    ]
    assert os.listdir(folder.parent) == ["tiny"]  # noqa: PTH208


def test_images_are_chosen_by_tensor_or_slice(folder):
    images = torch.from_numpy(tiny()["train"]["images"])
    split = store.load(folder, "train")
    assert torch.equal(split.images(torch.tensor([4, 1, 1])), images[[4, 1, 1]])
    assert torch.equal(split.images(slice(2, 5)), images[2:5])
    assert torch.equal(split.images(slice(2, 5), crop="random"), images[2:5])


def test_meta_describes_what_is_published(folder):
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["counts"] == {"train": 6, "test": 3}
    assert {**META, "counts": meta["counts"], "sha256": meta["sha256"]} == meta
    assert [len(meta["sha256"][split]) for split in ("train", "test")] == [64, 64]


def test_same_arrays_give_the_same_bytes(folder, tmp_path):
    store.publish(tmp_path / "again", tiny(), META)
    assert {name: content for name, (content, _) in state(folder).items()} == {
        name: content for name, (content, _) in state(tmp_path / "again").items()
    }


def test_publishing_over_an_older_dataset_replaces_all_of_it(folder):
    store.publish(folder, tiny(seed=1, train=4), META)
    assert len(store.load(folder, "train")) == 4
    assert np.array_equal(store.load(folder, "test").images().numpy(), tiny(seed=1, train=4)["test"]["images"])


def test_publishing_into_a_folder_made_in_advance(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "train.safetensors").write_bytes(b"an older one")
    store.publish(tmp_path / "made", tiny(), META)
    assert len(store.load(tmp_path / "made", "train")) == 6


def test_a_full_disk_leaves_the_published_dataset_untouched(folder, monkeypatch):
    before, synced = state(folder), []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RedoubtError, match=r"train\.safetensors: no space is left|test\.safetensors: no space is left"):
        store.publish(folder, tiny(seed=1), META)
    assert state(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_publication_that_dies_between_its_renames_cannot_be_loaded(folder, monkeypatch):
    real = type(folder).replace

    def replace(self, target):
        if target.name == "test.safetensors":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(type(folder), "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        store.publish(folder, tiny(seed=1), META)
    monkeypatch.undo()
    assert not (folder / "meta.json").exists()
    assert "no such file" in load_refused(folder)


def edit_meta(folder, **changes):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, **changes}))


def load_refused(folder, split="train"):
    with pytest.raises(RedoubtError) as caught:
        store.load(folder, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_load_refuses_what_meta_does_not_describe(folder):
    edit_meta(folder, shape=[3, 5, 4])
    assert "images is uint8 [6, 3, 4, 5]; meta.json says uint8 [6, 3, 5, 4]" in load_refused(folder)
    edit_meta(folder, shape=[3, 4, 5], counts={"train": 7, "test": 3})
    assert "says uint8 [7, 3, 4, 5]" in load_refused(folder)
    edit_meta(folder, counts={"test": 3})
    assert "meta.json: no key 'train'" in load_refused(folder)
    edit_meta(folder, counts=3)
    assert "does not describe the split 'train'" in load_refused(folder)
    (folder / "meta.json").write_text("{")
    assert "not JSON" in load_refused(folder)
    (folder / "meta.json").unlink()
    assert "no such file" in load_refused(folder)


def test_load_refuses_a_swapped_missing_or_strange_split(folder):
    assert "no such file" in load_refused(folder, "val")
    other = tiny(seed=1)
    store.publish(folder.parent / "other", other, META)
    (folder.parent / "other" / "train.safetensors").replace(folder / "train.safetensors")
    assert "wrong sha256" in load_refused(folder)
    (folder / "train.safetensors").write_bytes(b"<html>")
    assert "damaged" in load_refused(folder)
    other["train"]["labels"] = other["train"]["labels"].astype(np.int32)
    store.publish(folder, other, META)
    assert "labels is int32 [6]; meta.json says int64 [6]" in load_refused(folder)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_load_notices_every_flipped_bit(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        store.publish(folder, tiny(), META)
    path = folder / "test.safetensors"
    whole = path.read_bytes()
    position = data.draw(st.integers(0, 8 * len(whole) - 1))
    changed = bytearray(whole)
    changed[position // 8] ^= 1 << position % 8
    path.write_bytes(changed)
    try:
        load_refused(folder, "test")
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["digits", "digits-rgb"])
def test_digits_have_the_declared_form_and_are_the_same_every_time(name):
    source = SOURCES[name]
    splits = digits.build(source)
    for split, (images, labels) in splits.items():
        assert images.shape == (source.counts[split], *source.shape) and images.dtype == np.uint8
        assert labels.shape == (source.counts[split],) and labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(10))
        assert images.flags.c_contiguous
        again = digits.build(source)[split]
        assert np.array_equal(images, again[0]) and np.array_equal(labels, again[1])
    assert splits["train"][0].min() == 0 and splits["train"][0].max() == 255


def test_digits_split_every_fourth_image_off():
    from sklearn.datasets import load_digits

    target = load_digits().target
    splits = digits.build(SOURCES["digits"])
    assert splits["test"][1].tolist() == target[::4].tolist()
    assert splits["train"][1][:6].tolist() == target[[1, 2, 3, 5, 6, 7]].tolist()


def test_digits_are_framed_and_coloured_alike():
    grey = digits.build(SOURCES["digits"])["test"][0]
    assert not grey[:, :, :4].any() and not grey[:, :, :, -4:].any() and grey[:, :, 4:-4].any()
    colour = digits.build(SOURCES["digits-rgb"])["test"][0]
    background = colour[:, :, 0, 0]
    assert (colour[:, :, :4] == background[:, :, None, None]).all()
    assert background.max() <= 95 and len(np.unique(background, axis=0)) > 400
    assert (colour.reshape(450, 3, -1).max(axis=2) > background + 60).all()


def test_digits_have_not_changed():
    import hashlib

    found = {name: hashlib.sha256(digits.build(SOURCES[name])["test"][0]).hexdigest()[:16] for name in DIGESTS}
    assert found == DIGESTS


# Every demo result rests on these bytes; a new Pillow or scikit-learn that changes them must not pass unseen.
DIGESTS = {"digits": "4879134ab763e6d7", "digits-rgb": "0a8ae81a0129d677"}


@pytest.fixture
def pictures(tmp_path):
    """An ImageNet of two classes; every picture has its own grey on the left and white on the right."""
    root = tmp_path / "ilsvrc"
    for part, each in (("train", 3), ("val", 2)):
        for k, name in enumerate(("n01", "n02")):
            (root / part / name).mkdir(parents=True)
            for number in range(each - k):
                image = Image.new("RGB", (600, 300), (10 + 100 * k + 20 * number,) * 3)
                image.paste((255, 255, 255), (300, 0, 600, 300))
                image.save(root / part / name / f"{number}.{('JPEG', 'png')[k]}", quality=95)
    (root / "train" / "n01" / "notes.txt").touch()
    return root


def published(pictures, folder):
    splits, classes = imagenet.scan(pictures)
    meta = {"name": "imagenet", "shape": [3, 224, 224], "classes": list(classes), "root": str(pictures)}
    store.publish(folder, splits, meta)
    return folder


def test_imagenet_is_listed_and_decoded_on_demand(pictures, tmp_path):
    folder = published(pictures, tmp_path / "published")
    split = store.load(folder, "train")
    assert len(split) == 5 and not split.in_memory
    assert split.labels.tolist() == [0, 1, 0, 1, 0]
    images = split.images(torch.tensor([4, 1]))
    assert images.shape == (2, 3, 224, 224) and images.dtype == torch.uint8
    assert abs(int(images[0, 0, 100, 0]) - 50) <= 2 and images[1, 0, 100, 0] == 110
    assert (images[1, :, :, :111] == 110).all() and (images[1, :, :, 113:] == 255).all()
    test = store.load(folder, "test")
    assert test.labels.tolist() == [0, 1, 0] and test.images().shape[0] == 3
    assert torch.equal(test.images(slice(1, 3)), test.images()[1:3])


def test_random_crops_depend_on_the_generator_alone(pictures, tmp_path):
    split = store.load(published(pictures, tmp_path / "published"), "train")

    def crops(seed):
        return split.images(crop="random", generator=torch.Generator().manual_seed(seed))

    assert torch.equal(crops(1), crops(1)) and not torch.equal(crops(1), crops(2))
    assert crops(3).shape == (5, 3, 224, 224)
    with pytest.raises(ValueError, match="crop must be"):
        split.images(crop="top-left")


def test_a_random_crop_of_a_sliver_takes_its_central_square():
    sliver = Image.new("RGB", (1000, 10))
    sliver.paste((255, 255, 255), (495, 0, 505, 10))
    draws = np.tile([1.0, 0.5, 0.0, 0.0], (10, 1))
    assert (np.asarray(imagenet._random(sliver, draws)) == 255).all()


def test_an_unreadable_picture_is_named(pictures, tmp_path):
    split = store.load(published(pictures, tmp_path / "published"), "test")
    (pictures / "val" / "n02" / "0.png").write_bytes(b"<html>")
    with pytest.raises(RedoubtError, match=r"n02/0\.png: cannot be read as a picture"):
        split.images()


def test_imagenet_that_moved_away_is_reported(pictures, tmp_path):
    folder = published(pictures, tmp_path / "published")
    pictures.rename(tmp_path / "moved")
    assert "which no longer exists" in load_refused(folder)


def refused(pictures):
    """Return the line with which an ImageNet folder is refused."""
    with pytest.raises(RedoubtError) as caught:
        imagenet.scan(pictures)
    return str(caught.value)


def test_a_strange_imagenet_folder_is_refused(pictures, tmp_path):
    (pictures / "val" / "n99").mkdir()
    assert "val has class 'n99', which train/ lacks" in refused(pictures)
    (pictures / "val" / "n99").rename(pictures / "train" / "n99")
    assert "train has class 'n99', which val/ lacks" in refused(pictures)
    (pictures / "val" / "n99").mkdir()
    assert "train/n99 has no pictures (.jpeg, .jpg, .png); finish unpacking it" in refused(pictures)
    for part in ("train", "val"):
        (pictures / part / "n99").rmdir()
    (pictures / "train" / "n01" / "a\nb.png").touch()
    assert "train/n01 holds a line break" in refused(pictures)
    (pictures / "val").rename(tmp_path / "val")
    assert "has no val/" in refused(pictures)
    (pictures / "val").mkdir()
    (pictures / "train").rename(tmp_path / "train")
    (pictures / "train").mkdir()
    assert "has no class folders" in refused(pictures)
    assert "set data.imagenet" in refused(None)


def listed(pictures):
    """Return what the scan of train/ finds, as torchvision's ImageFolder lists it: (path, label), by class and path."""
    splits, _ = imagenet.scan(pictures)
    paths = os.fsdecode(splits["train"]["paths"].tobytes()).split("\n")
    return sorted(zip(paths, splits["train"]["labels"].tolist(), strict=True))


def test_hidden_files_and_folders_are_no_classes_and_no_pictures(pictures):
    before = listed(pictures)
    for name in (".ipynb_checkpoints", ".AAA"):
        (pictures / "train" / name).mkdir()
    (pictures / "train/n01/.thumbnails").mkdir()
    for name in (".AAA/0.png", "n01/.thumbnails/0.png", "n01/._0.JPEG"):
        (pictures / "train" / name).write_bytes(b"Mac OS X")
    assert listed(pictures) == before


def test_pictures_in_deeper_folders_are_those_that_torchvision_lists(pictures):
    importlib.import_module("redoubt.networks._vision")  # lets torchvision be imported beside a CPU build of torch
    from torchvision.datasets import ImageFolder

    train = pictures / "train"
    (train / "n01/images/deep").mkdir(parents=True)
    (train / "n01/0.JPEG").rename(train / "n01/images/deep/0.JPEG")
    (train / "n01/1.JPEG").rename(train / "n01/images/1.jpg")
    (train / "n02").rename(pictures / "elsewhere")
    (train / "n02").symlink_to(pictures / "elsewhere")
    expected = [(str(Path(path).relative_to(pictures)), label) for path, label in ImageFolder(train).imgs]
    assert listed(pictures) == sorted(expected) and len(expected) == 5
    (train / "n01/images/circle").symlink_to(train / "n01")
    assert listed(pictures) == sorted(expected)


def with_heavy_text(path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "x" * 2_000_000, zip=True)
    Image.new("RGB", (300, 300)).save(path, pnginfo=text)


def damaged(path):
    """Write a PNG with a damaged chunk behind its header."""
    Image.effect_noise((300, 300), 90).save(path)
    content = path.read_bytes()
    place = content.index(b"IDAT", 60_000)
    path.write_bytes(content[:place] + b"\0\1\2\3" + content[place + 4 :])  # Pillow raises a SyntaxError


def cut_off(path):
    Image.effect_noise((300, 300), 90).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-2000])


HARMS = {
    "no picture": (lambda path: path.write_bytes(b"<html>"), "cannot be read as a picture"),
    "empty": (lambda path: path.touch(), "cannot be read as a picture"),
    "a header cut off": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"), "cannot be read as a picture"),
    "a damaged chunk": (damaged, "broken PNG file"),
    "a JPEG cut off": (cut_off, "image file is truncated"),
    "heavy text": (with_heavy_text, "Decompressed data too large"),
    "a decompression bomb": (lambda path: Image.new("1", (20_000, 20_000)).save(path), "cannot be read as a picture"),
    "too many pixels": (lambda path: Image.new("1", (10_000, 10_000)).save(path), "10000x10000 pixels are too many"),
    "too slim": (lambda path: Image.new("L", (5_000, 1)).save(path), "5000x1 pixels are too many, or too slim"),
}


@pytest.mark.parametrize("name", HARMS)
def test_a_harmed_picture_is_found_before_anything_is_published(name, pictures, recwarn):
    harm, expected = HARMS[name]
    for number in (7, 8):
        harm(pictures / f"val/n02/{number}.png")
    line = refused(pictures)
    assert f"{pictures}/val/n02/7.png: " in line and expected in line and "(and 1 more pictures); replace" in line
    assert not recwarn.list


def test_bytes_behind_the_end_of_a_whole_picture_are_no_damage(pictures):
    before = listed(pictures)
    with (pictures / "train/n01/0.JPEG").open("ab") as stream:
        stream.write(b"\0" * 100)
    assert listed(pictures) == before


def test_later_damage_is_reported_with_the_name_when_a_picture_is_decoded(pictures, tmp_path):
    split = store.load(published(pictures, tmp_path / "published"), "train")
    damaged(pictures / "train/n02/0.png")
    with pytest.raises(RedoubtError, match=r"n02/0\.png: cannot be read as a picture: broken PNG file"):
        split.images()


def test_names_in_other_encodings_are_found_again_or_refused(pictures, tmp_path):
    train = pictures / "train"
    (train / "n01/0.JPEG").rename(os.fsdecode(bytes(train) + b"/n01/caf\xe9.JPEG"))
    split = store.load(published(pictures, tmp_path / "published"), "train")
    assert split.images().shape[0] == 5
    (train / "n02").rename(os.fsdecode(bytes(train) + b"/n\xe9"))
    (pictures / "val/n02").rename(os.fsdecode(bytes(pictures) + b"/val/n\xe9"))
    assert r"the name b'n\xe9' is not UTF-8; rename it" in refused(pictures)
