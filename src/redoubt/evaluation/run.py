"""From a model and an attack's entry to one row per attacked image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch

from redoubt import device, registry
from redoubt.attacks.interface import Batches, Context, Crafted, check_images, score
from redoubt.data import store
from redoubt.errors import RedoubtError
from redoubt.evaluation.expectation import Expectation
from redoubt.evaluation.surrogate import StraightThrough
from redoubt.files import atomic_path, canonical_json
from redoubt.models import classifier
from redoubt.models.weights import load_model
from redoubt.progress import progress
from redoubt.rows import SEAL, SHARED, read_sources, seal

BATCH = 256


def selected(split: store.Split, select: dict[str, Any]) -> torch.Tensor:
    """Return positions of the test images that are attacked, ascending."""
    positions = torch.arange(len(split))
    if select["label"] is not None:
        positions = (split.labels == select["label"]).nonzero()[:, 0]
    if select.get("not_label") is not None:
        positions = positions[split.labels[positions] != select["not_label"]]
    positions = positions[: select["images"]]
    if not len(positions):
        asked = ", ".join(f"{key}: {select[key]}" for key in ("label", "not_label") if select.get(key) is not None)
        raise RedoubtError(f"select: no test image is left by {{{asked}}}")
    return positions


class Victim:
    """A model as an attack sees it in one space.

    In `pixels` the attack sees the whole model on images in [0, 1] and is clipped to that box. In `preprocessed` it
    sees the network on preprocessed inputs, which have no bounds; norms and epsilons are in that space's units. This
    is the only place where the two are told apart.
    """

    def __init__(self, model: classifier.Classifier, space: str, random: bool = False) -> None:
        self.preprocessed = space == "preprocessed"
        self.network = model.network if self.preprocessed else model
        self.layer = model.preprocessing
        self.detector = getattr(model.network, "detects", None)  # of inputs of the network
        self.bounds = None if self.preprocessed else (0.0, 1.0)
        self.random = random  # predictions differ from call to call
        self._predicted: dict[int, torch.Tensor] = {}

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the attack perturbs, given images (N, C, H, W) in [0, 1]."""
        if not self.preprocessed:
            return images
        with torch.no_grad():
            return torch.cat([self.layer(part) for part in images.split(BATCH)])

    def predicted(self, start: int, inputs: torch.Tensor) -> torch.Tensor | None:
        """Return the classes (B,) of the clean batch that begins at `start`, asked once; None of a random model."""
        if self.random:
            return None
        if start not in self._predicted:
            with torch.no_grad():
                self._predicted[start] = self.network(inputs).argmax(1)
        return self._predicted[start]

    def detected(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return which attacked inputs the model's own detector reports, bool (N,)."""
        return self.detector(inputs if self.preprocessed else self.layer(inputs))

    def pictures(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return attacked inputs as images, in [0, 1] where the attack left that box alone."""
        if not self.preprocessed:
            return inputs
        if not hasattr(self.layer, "to_images"):
            raise RedoubtError(f"keep_images: {type(self.layer).__name__} cannot be turned back into images")
        return self.layer.to_images(inputs)


def rows_of(
    victim: Victim, crafted: Crafted, batch: dict[str, torch.Tensor], entry: dict[str, Any]
) -> Iterator[pd.DataFrame]:
    """Yield the rows of one crafted batch, once for every repetition, each scored by forward passes of its own.

    Columns: index (position in the test split), those of `redoubt.attacks.interface.score`, repetition where there are
    several, detected where the model has a detector, and the images and probabilities where the entry keeps them.
    """
    known = victim.predicted(crafted.start, batch["inputs"])
    for repetition in range(entry["repetitions"]):
        facts = score(victim.network, crafted, batch["inputs"], batch["labels"], known)
        logits = facts.pop("logits")
        columns = {"index": batch["positions"], **facts}
        frame = pd.DataFrame(
            {name: fact.cpu().numpy() if torch.is_tensor(fact) else fact for name, fact in columns.items()}
        )
        if entry["repetitions"] > 1:
            frame["repetition"] = repetition
        if victim.detector is not None:
            frame["detected"] = victim.detected(crafted.inputs).cpu().numpy()
        if entry["keep_images"]:
            probabilities = logits.softmax(1).cpu()
            picked = torch.arange(len(probabilities))
            frame["probability_label"] = probabilities[picked, batch["labels"].cpu()].numpy()
            frame["probability_adversarial"] = probabilities[picked, logits.argmax(1).cpu()].numpy()
            frame["image"] = list(crafted.inputs.flatten(1).cpu().numpy())
            frame["clean_picture"] = list(victim.pictures(batch["inputs"]).flatten(1).cpu().numpy())
            frame["picture"] = list(victim.pictures(crafted.inputs).flatten(1).cpu().numpy())
        yield frame


def attack(
    entry: dict[str, Any],
    seed: int,
    data: Path,
    weights: Path,
    preprocessing: Path,
    out: Path,
    reads: list[Path] | None = None,
    device_name: str = "auto",
    threads: int = 1,
) -> pd.DataFrame:
    """Attack one model and write its rows to `out`; the model's weights, buffers and mode stay as they are.

    Args:
        entry: the attack's entry, as the catalog gives it.
        seed: of the model; the attack's own draws follow from it and the two ids.
        data: folder of a published dataset, whose test split is attacked.
        weights: of the model, with `model.json` beside them.
        preprocessing: the file of what the model's preprocessing learned from its dataset.
        out: the parquet file.
        reads: rows that the attack builds on.
        device_name: auto, cpu or cuda.
        threads: CPU threads.

    Returns:
        The rows, see `rows_of`.
    """
    where = device.choose(device_name, threads)
    model, facts = load_model(weights, preprocessing, where)
    generator = device.seed_everything(facts["entry"]["id"], seed, entry["id"])
    split = store.load(data, "test")
    positions = selected(split, entry["select"])
    if (found := tuple(split.images(positions[:1]).shape[1:])) != (shape := tuple(facts["shape"])):
        raise RedoubtError(
            f"{data}: its images are {found}, those of {weights} are {shape}; give the data it was trained on"
        )
    images = split.images(positions).to(where).float() / 255.0
    labels = split.labels[positions].to(where)
    check_images(images, labels)
    victim = Victim(model, entry["space"], facts["entry"]["defense"].get("random", False))
    batches = Batches(victim.inputs(images), labels, BATCH)
    known = read_sources(reads) if reads else None
    crafting = None
    if entry["crafting"] is not None:
        training = store.load(data, "train")
        crafting = victim.inputs(training.images(slice(0, entry["crafting"])).to(where).float() / 255.0)
    context = Context(generator, entry["engine"], victim.bounds, known, positions, crafting)
    kind, name = ("probes", entry["probe"]) if entry.get("probe") else ("attacks", entry["attack"])
    options = registry.parameters(kind, name, entry["parameters"])
    network = StraightThrough(victim.network) if entry.get("gradient") == "straight-through" else victim.network
    together = not entry.get("draws_apart", False)
    network = network if entry["draws"] == 1 else Expectation(network, entry["draws"], together)
    crafted = registry.method(kind, name).run(network, batches, options, context)
    frames: list[pd.DataFrame] = []
    shared: dict[str, torch.Tensor] = {}
    for part in progress(crafted, entry["id"]):
        own = slice(part.start, part.start + len(part.inputs))
        batch = {"inputs": batches.images[own], "labels": labels[own], "positions": positions[own]}
        frames += rows_of(victim, part, batch, entry)
        shared |= {name: tensor.cpu().contiguous() for name, tensor in part.shared.items()}
    frame = pd.concat(frames, ignore_index=True)
    metadata = {"model": facts["entry"]["id"], "attack": canonical_json(entry)}
    metadata |= {name: canonical_json(facts[name]) for name in ("shape", "classes")}
    if shared:
        metadata[SHARED] = safetensors.torch.save(shared)
    write_rows(frame, out, metadata)
    return frame


def write_rows(frame: pd.DataFrame, out: Path, facts: dict[str, str | bytes]) -> None:
    """Write rows as parquet with `facts` as the file's metadata, whole or not at all."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(facts)
    table = table.replace_schema_metadata({**table.schema.metadata, SEAL.encode(): seal(table.schema)})
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
