"""From a model and an attack's entry to one row per attacked image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch

from redoubt import device, registry
from redoubt.attacks._expectation import Expectation
from redoubt.attacks._finite import Finite
from redoubt.attacks._kept import Keeping
from redoubt.attacks.interface import Batches, Crafted, score
from redoubt.data import store
from redoubt.errors import RedoubtError
from redoubt.evaluation.blocks import Unfinished, in_one
from redoubt.evaluation.checks import check_mode, check_model
from redoubt.evaluation.combined import combined, combines
from redoubt.evaluation.engine import implementation
from redoubt.evaluation.surrogate import restart, surrogate_of
from redoubt.evaluation.victim import BATCH, Images, Victim, attacked_images
from redoubt.files import canonical_json, entry_digest, file_digest, read_json
from redoubt.graph import code
from redoubt.layout import preprocessing_file
from redoubt.models.classifier import Classifier
from redoubt.models.weights import load_model
from redoubt.progress import progress
from redoubt.rows import CRAFTED_ON, NONFINITE, SHARED, read_sources, write_rows
from redoubt.study.entries.attack import AttackEntry, Noise
from redoubt.study.entries.model import ModelEntry
from redoubt.training.resume import Resume


def rows_of(
    victim: Victim,
    crafted: Crafted,
    batch: dict[str, torch.Tensor],
    entry: AttackEntry,
    only: int | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of one crafted batch, once for every repetition, each scored by separate forward passes.

    Columns: index (position in the split), those of `redoubt.attacks.interface.score`, repetition where there are
    several, detected where the model has a detector, and where the entry keeps images: probabilities, `picture` (the
    adversarial image, float32), `clean` (the image, uint8), and `image`, the adversarial input where it is no picture.

    Args:
        victim: the scored model.
        crafted: the adversarial inputs.
        batch: the batch's `inputs`, `labels`, `positions`, and `stored` images (uint8) where the entry keeps images.
        entry: of the attack.
        only: number of the one repetition that scores this batch; all of them when None.
    """
    known = victim.predicted(crafted.start, batch["inputs"])
    for repetition in range(entry.repetitions) if only is None else [only]:
        facts = score(victim.network, crafted, batch["inputs"], batch["labels"], known)
        logits = facts.pop("logits")
        columns = {"index": batch["positions"], **facts}
        frame = pd.DataFrame(
            {name: fact.cpu().numpy() if torch.is_tensor(fact) else fact for name, fact in columns.items()}
        )
        if entry.repetitions > 1:
            frame["repetition"] = repetition
        if victim.detector is not None:
            frame["detected"] = victim.detected(crafted.inputs).cpu().numpy()
        if entry.keep_images:
            probabilities = logits.softmax(1).cpu()
            picked = torch.arange(len(probabilities))
            frame["probability_label"] = probabilities[picked, batch["labels"].cpu()].numpy()
            frame["probability_adversarial"] = probabilities[picked, logits.argmax(1).cpu()].numpy()
            frame["clean"] = list(batch["stored"].flatten(1).numpy())
            frame["picture"] = list(victim.pictures(crafted.inputs).flatten(1).cpu().numpy())
            if victim.preprocessed:
                frame["image"] = list(crafted.inputs.flatten(1).cpu().numpy())
        yield frame


def attack(
    entry: AttackEntry | dict[str, Any],
    seed: int,
    data: Path,
    weights: Path,
    preprocessing: Path,
    out: Path,
    reads: list[Path] | None = None,
    device_name: str = "auto",
    threads: int = 1,
    crafted_on: Path | None = None,
    resume_root: Path = Path("results/.resume"),
) -> pd.DataFrame:
    """Attack one model and write its rows to `out`; the model's weights, buffers and mode stay as they are.

    Args:
        entry: the attack's entry, as the catalog gives it.
        seed: of the model; the draws follow from it, the id of the model that examples are crafted on, and the entry's.
        data: folder of a published dataset, whose test split (or another, by the entry) is attacked.
        weights: of the scored model, with `model.json` beside them.
        preprocessing: the file of what the preprocessing of the scored model learned; that of `crafted_on` lies beside.
        out: the parquet file.
        reads: rows that the attack builds on.
        device_name: auto, cpu or cuda.
        threads: CPU threads.
        crafted_on: weights of another model, with `model.json` beside them: the examples are crafted on that one.
        resume_root: where unfinished attacks keep what they have.

    Returns:
        The rows, see `rows_of`.
    """
    entry = AttackEntry.parse(entry)
    if combines(entry):
        return _combined(entry, weights, reads or [], out)
    where = device.choose(device_name, threads)
    model, facts = load_model(weights, preprocessing, where)
    images = attacked_images(data, entry.select, facts, weights, where)
    victim = _victim(model, facts, entry, weights, entry.score_noise)
    source, origin = victim, facts
    if crafted_on is None and entry.craft_noise != entry.score_noise:
        source = _victim(model, facts, entry, weights, entry.craft_noise)
    if crafted_on is not None:
        other, origin = load_model(crafted_on, _preprocessing_of(crafted_on, preprocessing), where)
        _check_transfer(entry, facts, origin)
        source = _victim(other, origin, entry, crafted_on, entry.craft_noise)
    known = read_sources(reads) if reads else None
    resume = _resume(entry, seed, data, facts, origin, reads or [], resume_root)
    names = (origin["entry"]["id"], seed, entry.id)
    frame, metadata = _attacked(victim, source, images, entry, data, known, names, resume)
    metadata |= _facts(facts, entry)
    if crafted_on is not None:
        metadata[CRAFTED_ON] = origin["entry"]["id"]
    write_rows(frame, out, metadata)
    resume.clear()
    return frame


def _facts(facts: dict[str, Any], entry: AttackEntry) -> dict[str, str | bytes]:
    """Return what a file of rows says of their model, given its `model.json`, and of their attack."""
    metadata: dict[str, str | bytes] = {"model": facts["entry"]["id"], "attack": canonical_json(entry.dump())}
    return metadata | {name: canonical_json(facts[name]) for name in ("shape", "classes")}


def _combined(entry: AttackEntry, weights: Path, reads: list[Path], out: Path) -> pd.DataFrame:
    facts = read_json(weights.with_name("model.json"))
    frame = combined(entry, reads, facts["entry"]["id"])
    write_rows(frame, out, _facts(facts, entry))
    return frame


def _resume(
    entry: AttackEntry,
    seed: int,
    data: Path,
    facts: dict[str, Any],
    origin: dict[str, Any],
    reads: list[Path],
    root: Path,
) -> Resume:
    """Return where the state is kept: a folder named by all that the rows depend on, but for the code."""
    models = [(own["entry"]["id"], own["sha256"], own["preprocessing"]["sha256"]) for own in (facts, origin)]
    sources = [file_digest(path) for path in reads]
    name = entry_digest([entry, seed, read_json(data / "meta.json")["sha256"], models, sources])
    parts = [registry.module_name(*entry.method)]
    parts += [registry.module_name("engines", entry.engine)] if entry.engine != "redoubt" else []
    for own in (facts, origin):
        model = ModelEntry.parse(own["entry"])
        named = {"networks": model.network, "preprocessing": model.preprocessing, "defenses": model.defense}
        parts += [registry.module_name(kind, method.name) for kind, method in named.items()]
    folder = root / f"{facts['entry']['id']}-seed-{seed}-{entry.id}-{name}"
    return Resume(folder, made_by=lambda: f"{torch.__version__} {code.digest(__name__, *dict.fromkeys(parts))}")


def _victim(model: Classifier, facts: dict[str, Any], entry: AttackEntry, weights: Path, noise: Noise) -> Victim:
    random = ModelEntry.parse(facts["entry"], str(weights)).defense.draws != "never"
    return Victim(model, entry.space, random and noise == "drawn", noise)


def _preprocessing_of(weights: Path, beside: Path) -> Path:
    """Return the file of what another model's preprocessing learned, in the folder of a file of the same dataset."""
    entry = ModelEntry.parse(read_json(weights.with_name("model.json"))["entry"], str(weights))
    named = entry.preprocessing
    return beside.with_name(Path(preprocessing_file(entry.dataset, named.name, entry_digest(named))).name)


def _check_transfer(entry: AttackEntry, target: dict[str, Any], source: dict[str, Any]) -> None:
    """Refuse two models whose inputs or classes differ; arguments are the entry and two `model.json`."""
    where = f"{entry.id}: crafted on {source['entry']['id']}, scored on {target['entry']['id']}"
    for name in ("shape", "classes"):
        if source[name] != target[name]:
            raise RedoubtError(f"{where}: they have different {name}")
    if entry.probe is not None:
        raise RedoubtError(f"{where}: a probe crafts nothing")
    if entry.space == "preprocessed" and source["entry"]["preprocessing"] != target["entry"]["preprocessing"]:
        raise RedoubtError(f"{where}: they preprocess images differently; use space: pixels")


def _attacked(
    victim: Victim,
    source: Victim,
    images: Images,
    entry: AttackEntry,
    data: Path,
    known: pd.DataFrame | None,
    names: tuple,
    resume: Resume,
) -> tuple[pd.DataFrame, dict[str, str | bytes]]:
    """Craft on `source`, score on `victim`, by draws that `names` decide; return rows, and what their file says."""
    turns = entry.repetitions if entry.recraft else 1
    generators = {turn: device.seed_everything(*names, *[turn][:turn]) for turn in reversed(range(turns))}
    kind, name = entry.method
    options = registry.parameters(kind, name, entry.parameters)
    batches = Batches(source.inputs(images.pixels), images.labels, BATCH)
    crafting = None
    if entry.crafting is not None:
        training = store.load(data, "train").images(slice(0, entry.crafting))
        crafting = source.inputs(training.to(images.pixels.device).float() / 255.0)
    for seen in dict.fromkeys((source, victim)):
        check_mode(name, seen.network)
        check_model(name, seen.network, batches.images, images.labels, options)
    surrogate = surrogate_of(source, entry, images, data)
    finite = Finite(surrogate, source.bounds) if kind == "attacks" else None
    network: Callable = source.network if finite is None else finite
    drawn = source.random or entry.surrogate.peers == "fresh"
    if finite is not None and drawn:
        network = Expectation(finite, entry.draws, entry.mean, entry.judges)
    state = Unfinished(resume, finite, images.pixels.device)
    run = implementation(kind, name, entry.engine)
    whole = in_one(entry, options, drawn or victim.random)
    for turn, block in progress(state.left(batches, whole, turns), entry.id):
        if turn and not block.first:
            device.seed_everything(*names, turn)
        context = Keeping(generators[turn], source.bounds, known, images.positions, crafting, state)
        parts: list[pd.DataFrame] = []
        shared: dict[str, torch.Tensor] = {}
        for part in run(network, block, options, context):
            own = slice(part.start, part.start + len(part.inputs))
            batch = {"inputs": batches.images[own], "labels": images.labels[own]}
            batch |= {"positions": images.positions[own], "stored": images.stored[own]}
            scored = rows_of(victim, part, batch, entry, turn if entry.recraft else None)
            parts.append(pd.concat(scored, ignore_index=True))
            shared |= {key: tensor.cpu().contiguous() for key, tensor in part.shared.items()}
            restart(surrogate)
        state.finished(turn, block, parts, shared)
    frame, shared, metadata = state.frame(turns), state.shared, {}
    if finite is not None:
        frame.attrs[NONFINITE] = finite.share_checked()
        metadata[NONFINITE] = canonical_json(frame.attrs[NONFINITE])
    return frame, metadata | ({SHARED: safetensors.torch.save(shared)} if shared else {})
