"""Universal perturbations: kept beside the rows of the attack, and exported as tensors and images."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from PIL import Image

from redoubt.evaluation import run as attacking
from redoubt.rows import read_rows, read_shared
from redoubt.tools import perturbation
from redoubt.training.fit import fit


@pytest.fixture(scope="module")
def rows(tiny_data, make_entry, make_attack, prepare_once, tmp_path_factory):
    """Rows of a universal attack that was crafted on training images of the tiny data."""
    folder = tmp_path_factory.mktemp("universal")
    learned = prepare_once(make_entry())
    fit(make_entry(), 0, tiny_data, learned, folder / "model", None, "cpu", 1, folder / "resume")
    parameters = {"rhos": [0.2, 0.5], "passes": 1}
    entry = make_attack("universal", parameters=parameters, space="pixels", crafting=50, select={"images": 9})
    out = folder / "rows.parquet"
    attacking.attack(entry, 0, tiny_data, folder / "model/weights.safetensors", learned, out)
    return out


def test_one_perturbation_serves_all_images(rows, tiny_data):
    shared, frame = read_shared(rows), read_rows(rows)
    assert sorted(shared) == ["rho-0.2", "rho-0.5"] and len(frame) == 18
    for rho in (0.2, 0.5):
        v = shared[f"rho-{rho}"]
        assert v.shape == (1, 28, 28) and v.dtype == np.float32
        own = frame[frame["rho"] == rho]
        assert np.sqrt((v.astype(np.float64) ** 2).sum()) <= own["radius"].iloc[0] * (1 + 1e-6)
        assert (own["l2"] <= own["radius"] + 1e-6).all() and (own["linf"] <= np.abs(v).max() + 1e-6).all()
    assert pq.read_schema(rows).metadata[b"model"] == b"tiny-model"


def test_tensors_and_images_are_written(rows, tmp_path, capsys):
    assert perturbation.main(["--rows", str(rows), "--folder", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("2 perturbations in")
    stored = safetensors.numpy.load_file(tmp_path / "out/perturbations.safetensors")
    assert all(np.array_equal(stored[name], tensor) for name, tensor in read_shared(rows).items())
    images = sorted((tmp_path / "out").glob("*.png"))
    assert [path.name.split("-x")[0] for path in images] == ["rho-0.2", "rho-0.5"]
    for path, (_, tensor) in zip(images, sorted(stored.items()), strict=True):
        pixels = np.asarray(Image.open(path)).astype(float)
        assert pixels.shape == (28, 28) and (pixels.min() == 0 or pixels.max() == 255)
        factor = float(path.stem.split("-x")[1])
        assert np.abs(pixels / 255 - (0.5 + factor * tensor[0])).max() < 0.01


def test_colours_keep_their_channels():
    image, factor = perturbation.picture(np.stack([np.full((2, 2), value) for value in (0.1, 0.0, -0.2)]))
    assert factor == pytest.approx(2.5) and np.asarray(image)[0, 0].tolist() == [191, 128, 0]


def test_rows_of_another_attack_are_refused(tmp_path, failure):
    missing = tmp_path / "none.parquet"
    assert "no tensors that all rows share" in failure(perturbation.main, ["--rows", missing, "--folder", tmp_path])
