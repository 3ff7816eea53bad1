"""A folder of pictures as a dataset: its layouts, its identity, and every odd picture handled or refused by name."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from redoubt.data import pictures, sources, store
from redoubt.errors import RedoubtError
from redoubt.graph.jobs import Jobs
from redoubt.steps import download
from redoubt.study import catalog

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (3, 6, 4)


def encoded(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def coloured(seed, size=(4, 6), mode="RGB"):
    draws = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(draws).convert(mode)


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                file = tmp_path / "pets" / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(encoded(coloured(10 * label + number)))
    return tmp_path / "pets"


def published(folder, out):
    asked = {"dataset": "pets", "path": str(folder), "shape": SHAPE}
    assert download.main(["--pictures", json.dumps(asked), "--folder", str(out)]) == 0
    return json.loads((out / "meta.json").read_text())


def test_a_folder_becomes_a_dataset_in_which_classes_take_turns(folder, tmp_path):
    meta = published(folder, tmp_path / "out")
    split = store.load(tmp_path / "out", "train")
    assert meta["classes"] == ["cat", "dog"] and meta["counts"] == {"train": 6, "test": 4}
    assert split.labels.tolist() == [0, 1] * 3
    assert np.array_equal(split.images()[1].numpy(), np.asarray(coloured(10)).transpose(2, 0, 1))


def test_parquet_files_become_the_same_pixels(tmp_path):
    for split in ("train", "test"):
        images = [{"bytes": encoded(coloured(number)), "path": None} for number in range(3)]
        pyarrow.parquet.write_table(pa.table({"image": images, "label": [0, 1, 0]}), tmp_path / f"{split}.parquet")
    meta = published(tmp_path, tmp_path / "out")
    split = store.load(tmp_path / "out", "test")
    assert meta["classes"] == ["0", "1"] and split.labels.tolist() == [0, 1, 0]
    assert np.array_equal(split.images()[2].numpy(), np.asarray(coloured(2)).transpose(2, 0, 1))


def entry(folder):
    return sources.pictures("pets", str(folder), SHAPE).entry()


def test_another_byte_is_another_dataset_and_another_place_is_not(folder, tmp_path):
    before = entry(folder)
    shutil.copytree(folder, tmp_path / "moved")
    assert entry(tmp_path / "moved") == before
    (folder / "train/cat/0.png").write_bytes(encoded(coloured(99)))
    assert entry(folder) != before


def test_the_config_names_it_and_its_download_knows_it(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", dict(sources.SOURCES))
    shutil.copytree(ROOT / "config", tmp_path / "config")
    asked = {"pets": {"path": str(folder), "height": 6, "width": 4}}
    jobs = {job.name: job for job in Jobs(catalog.load(tmp_path, {"data": {"folders": asked}}))}
    assert jobs["download/pets"].entry == entry(folder)
    with pytest.raises(RedoubtError, match=r"data\.folders\.mnist: there is a dataset of this name; rename it"):
        catalog.load(tmp_path, {"data": {"folders": {"mnist": asked["pets"]}}})


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return encoded(coloured(1, (6, 4)), "PNG", exif=exif)


def opaque(alpha):
    picture = coloured(1).convert("RGBA")
    picture.putalpha(alpha)
    return encoded(picture)


def frames():
    return encoded(coloured(1), "PNG", save_all=True, append_images=[coloured(2)])


def test_a_picture_is_turned_as_its_exif_data_say():
    found = pictures.decoded("a.png", turned(), SHAPE)
    assert np.array_equal(found, np.rot90(np.asarray(coloured(1, (6, 4))), -1).transpose(2, 0, 1))


@pytest.mark.parametrize("content", [opaque(255), encoded(coloured(1, mode="P")), encoded(coloured(1, mode="L"))])
def test_opaque_alpha_palettes_and_grey_are_read(content):
    assert pictures.decoded("a.png", content, SHAPE).shape == SHAPE


def test_a_grey_picture_has_one_channel():
    found = pictures.decoded("a.png", encoded(coloured(1, mode="L")), (1, 6, 4))
    assert np.array_equal(found[0], np.asarray(coloured(1, mode="L")))


@pytest.mark.parametrize(
    ("content", "shape", "message"),
    [
        (encoded(coloured(1, mode="CMYK"), "JPEG"), SHAPE, "CMYK colours; convert it to RGB"),
        (encoded(Image.fromarray(np.ones((6, 4), np.uint16))), SHAPE, "more than 8 bits a channel"),
        (opaque(254), SHAPE, "transparent pixels"),
        (frames(), SHAPE, "2 frames; one is expected"),
        (encoded(coloured(1, (40, 60))), SHAPE, "40x60 pixels; 4x6 are expected: resize it"),
        (encoded(coloured(1)), (1, 6, 4), "colours, where channels: 1 is asked for"),
        (encoded(coloured(1))[:60], SHAPE, "cannot be read as a picture"),
        (b"GIF89a", SHAPE, "cannot be read as a picture"),
    ],
)
def test_an_odd_picture_is_refused_by_its_name(content, shape, message):
    with pytest.raises(RedoubtError, match=f"^odd.png: .*{message}") as caught:
        pictures.decoded("odd.png", content, shape)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "train/cat/notes.txt").write_text("no"), r"notes\.txt: is no picture"),
        (lambda folder: shutil.rmtree(folder / "test/cat"), "must have the same folders of classes"),
        (lambda folder: shutil.rmtree(folder / "test"), "a folder with train/ and test/, or train.parquet"),
        (lambda folder: [file.unlink() for file in (folder / "test/dog").iterdir()], "test/dog: has no pictures"),
    ],
)
def test_an_odd_folder_is_refused(folder, tmp_path, change, message):
    change(folder)
    with pytest.raises(RedoubtError, match=message):
        published(folder, tmp_path / "out")


def test_too_many_pictures_are_refused(folder, monkeypatch):
    monkeypatch.setattr(sources, "MOST_PICTURES", 9)
    with pytest.raises(RedoubtError, match=r"10 files, .*: at most 9 and 4 GiB are read"):
        entry(folder)
