"""Universal perturbations that are stored with an attack's rows: read back, replayed, shown by class names."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from redoubt.attacks import replay
from redoubt.attacks.interface import Batches, Context
from redoubt.errors import RedoubtError
from redoubt.rows import read_rows, read_shared, read_sources, rho_of, write_rows
from redoubt.steps import attack, train


@pytest.fixture(scope="module")
def weights(tiny_data, tmp_path_factory, make_entry, prepare_once):
    """Weights of a model trained on 200 digits."""
    folder, entry = tmp_path_factory.mktemp("model"), make_entry(epochs=6)
    common = ["--data", tiny_data, "--device", "cpu", "--resume", folder / "resume"]
    common += ["--folder", folder / "m", "--preprocessing", prepare_once(entry)]
    train.main(["--entry", json.dumps(entry), *map(str, common)])
    return folder / "m/weights.safetensors"


@pytest.fixture
def run(tiny_data, weights, tmp_path, make_attack, make_entry, prepare_once):
    """Function that attacks the model and returns the file of its rows."""

    def go(name, reads=(), **changes):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        entry = json.dumps(make_attack(name, space="pixels", **changes))
        given = {"entry": entry, "data": tiny_data, "weights": weights, "out": out, "device": "cpu"}
        given["preprocessing"] = prepare_once(make_entry())
        flags = [str(part) for key, value in given.items() for part in (f"--{key}", value)]
        attack.main([*flags, *(["--reads", *map(str, reads)] if reads else [])])
        return out

    return go


def replayed(shared, images, bounds=(0.0, 1.0), size=2):
    reads = pd.DataFrame({"model": [*shared], "index": 0})
    reads.attrs["shared"] = shared
    batches = Batches(images, torch.zeros(len(images), dtype=torch.int64), size)
    context = Context(torch.Generator(), bounds=bounds, reads=reads, positions=torch.arange(len(images)))
    return list(replay.run(None, batches, replay.Parameters(), context))


def test_a_model_replays_its_own_perturbations_to_the_same_rows(run):
    crafted = run("universal", parameters={"rhos": [0.3, 0.6], "passes": 1})
    again = run("replay", reads=[crafted])
    rows, copies = read_rows(crafted), read_rows(again)
    columns = ["index", "label", "clean_label", "adversarial_label", "success", "l2", "linf", "rho"]
    pd.testing.assert_frame_equal(rows[columns], copies[columns])
    assert set(copies["source"]) == {"tiny-model"} and rows["success"].any()
    before, after = read_shared(crafted), read_shared(again)
    assert [*after] == ["rho-0.3", "rho-0.6"] and all(np.array_equal(before[name], after[name]) for name in before)


def test_chosen_images_get_the_same_perturbation_and_are_kept(run):
    crafted = run("universal", parameters={"rhos": [0.6], "passes": 1})
    rows = read_rows(run("replay", reads=[crafted], select={"images": 3, "label": 7}, keep_images=True))
    assert rows["label"].tolist() == [7] * 3 and rows.attrs["classes"] == [str(n) for n in range(10)]
    v = read_shared(crafted)["rho-0.6"].ravel()
    for _, row in rows.iterrows():
        assert row["picture"] == pytest.approx(np.clip(row["clean_picture"] + v, 0, 1), abs=1e-6)


def test_classes_may_be_left_out_of_a_selection(run):
    rows = read_rows(run("fgs", parameters={"epsilons": [0.1]}, select={"images": 20, "not_label": 3}))
    every = read_rows(run("fgs", parameters={"epsilons": [0.1]}, select={"images": 60}))
    expected = every[every["label"] != 3]["index"].head(20)
    assert rows["index"].tolist() == expected.tolist() and 3 not in set(rows["label"])


def test_every_source_and_radius_is_added_and_clipped():
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    shared = {
        model: {f"rho-{rho:g}": np.full((1, 4, 4), sign * rho, np.float32) for rho in (0.5, 0.25)}
        for model, sign in (("second", 1), ("first", -1))
    }
    parts = replayed(shared, images)
    places = [(part.facts["source"], part.facts["rho"], part.start) for part in parts]
    assert places == [(model, rho, start) for model in ("second", "first") for rho in (0.25, 0.5) for start in (0, 2)]
    assert torch.equal(parts[0].inputs, (images[:2] + 0.25).clamp(0, 1)) and not any(part.shared for part in parts)
    assert torch.equal(parts[-1].inputs, (images[2:] - 0.5).clamp(0, 1))
    assert torch.equal(replayed({"first": shared["first"]}, images, None)[-1].inputs, images[2:] - 0.5)


def test_the_perturbations_of_one_source_are_passed_on():
    v = np.random.default_rng(0).random((1, 4, 4), np.float32)
    parts = replayed({"m": {"rho-0.1": v}}, torch.zeros(2, 1, 4, 4))
    assert [[*part.shared] for part in parts] == [["rho-0.1"]] and np.array_equal(parts[0].shared["rho-0.1"].numpy(), v)


@pytest.mark.parametrize(
    "shared", [{"peers": np.zeros((1, 4, 4))}, {"rho-0.1": np.zeros((1, 5, 4))}, {"rho-0.1": np.zeros((4, 4))}]
)
def test_what_is_no_perturbation_of_these_images_is_refused(shared):
    with pytest.raises(RedoubtError, match=r"m holds .*: no universal perturbation of these images"):
        replayed({"m": shared}, torch.zeros(2, 1, 4, 4))


def test_rows_without_either_are_refused():
    with pytest.raises(RedoubtError, match="needs an evaluation whose `reads`"):
        replayed({}, torch.zeros(1, 1, 4, 4))


def test_sources_are_read_with_what_they_share(tmp_path, run):
    crafted = run("universal", parameters={"rhos": [0.3], "passes": 1})
    plain = tmp_path / "plain.parquet"
    write_rows(pd.DataFrame({"index": [0], "l2": [1.0]}), plain, {"model": "other", "shape": "[1, 28, 28]"})
    found = read_sources([plain, crafted])
    assert found["model"].tolist() == ["other"] + ["tiny-model"] * 40 and [*found.attrs["shared"]] == ["tiny-model"]
    assert read_rows(plain).attrs["classes"] == [] and rho_of("rho-1e-05") == 1e-5
    with pytest.raises(RedoubtError, match="no readable rows"):
        read_sources([tmp_path / "none.parquet"])
    with pytest.raises(RedoubtError, match="a second universal attack on tiny-model"):
        read_sources([crafted, crafted])
