"""What a kept run says of where its numbers come from."""

from redoubt.files import write_json
from redoubt.tools import reference


def model(folder, torch, device="cpu"):
    versions = {"python": "3.12.3", "torch": torch}
    write_json(folder / "model.json", {"versions": versions, "device": device, "threads": 1, "seed": 0})


def test_each_way_in_which_models_were_trained_is_named_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "results/paper/models"
    model(models / "a/seed-0", "2.13.0")
    model(models / "a/seed-1", "2.13.0")
    model(models / "b/seed-0", "2.11.0", "cuda")
    model(tmp_path / "results/demo/models/c/seed-0", "2.0")
    assert reference.trained("paper") == [
        {"python": "3.12.3", "torch": "2.13.0", "device": "cpu", "threads": 1},
        {"python": "3.12.3", "torch": "2.11.0", "device": "cuda", "threads": 1},
    ]


def test_seconds_are_those_of_the_last_row_of_each_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs/benchmarks/paper/defend/a"
    folder.mkdir(parents=True)
    (folder / "seed-0.tsv").write_text("s\tio\n10.0\t-\n12.34\t-\n")
    assert reference.seconds("paper") == {"defend/a/seed-0": 12.3}
