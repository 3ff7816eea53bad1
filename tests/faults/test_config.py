"""Config files harmed at random: each is valid, or refused in one line that names file and key."""

import copy
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redoubt.errors import RedoubtError
from redoubt.files import canonical_json
from redoubt.graph.jobs import Jobs
from redoubt.layout import study_file
from redoubt.study import catalog as catalogs
from redoubt.study.config import PARTS

ROOT = Path(__file__).resolve().parents[2]
FILES = ["config/config.yaml", *(study_file(name, part) for name in ("deepdefense", "peernets") for part in PARTS)]
FILES += [f"config/scales/{name}.yaml" for name in ("demo", "laptop", "paper", "demo/deepdefense", "laptop/peernets")]
LINE = re.compile(r"config/[\w./-]+\.yaml: (line \d+: |not UTF-8|nested|expected a mapping|[^:\n]+: )?.+")
EXPECTED = "valid, or one line that names file and key; no traceback, no job"
COMMAND_LINE = 2**17  # bytes of one argument that Linux takes

GIVEN = yaml.safe_load((Path(__file__).parent / "junk.yaml").read_text(encoding="utf-8"))
JUNK = [value for line in GIVEN["values"] for value in line] + ["x" * 300, "x" * 200_000, "\ud800"]
KEYS = [value for value in JUNK if isinstance(value, str | float | int)]
TEXTS = [text for line in GIVEN["texts"] for text in line]
TEXTS += ["[" * 2000 + "]" * 2000, "{" * 500, "0x" + "f" * 5000, "1" * 5000]


def places(value, path=()):
    """Return the path of every key and item below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in items for found in [(*path, key), *places(part, (*path, key))]]


ORIGINALS = {file: (ROOT / file).read_text(encoding="utf-8") for file in FILES}
PARSED = {file: yaml.safe_load(text) for file, text in ORIGINALS.items()}
PLACES = {file: places(value) for file, value in PARSED.items()}


@st.composite
def harmed(draw):
    """Draw a config file and a harm: the file's name, its new bytes, and what was done."""
    file = draw(st.sampled_from(FILES))
    if draw(st.booleans()):
        return file, *draw(harmed_value(file))
    return file, *draw(harmed_text(file))


@st.composite
def harmed_value(draw, file):
    *path, last = draw(st.sampled_from(PLACES[file]))
    value = copy.deepcopy(PARSED[file])
    holder = value
    for key in path:
        holder = holder[key]
    kind = draw(st.sampled_from(["delete", "replace", "add", "move"]))
    if kind == "delete":
        del holder[last]
    elif kind == "replace":
        holder[last] = draw(st.sampled_from(JUNK))
    elif kind == "move":  # what another key holds, perhaps of another file
        other = draw(st.sampled_from(FILES))
        found = PARSED[other]
        for key in draw(st.sampled_from(PLACES[other])):
            found = found[key]
        holder[last] = copy.deepcopy(found)
    elif isinstance(holder, dict):
        holder[draw(st.text(max_size=8) | st.sampled_from(KEYS))] = draw(st.sampled_from(JUNK))
    else:
        holder.append(draw(st.sampled_from(JUNK)))
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass"), (
        kind,
        *path,
        last,
    )


@st.composite
def harmed_text(draw, file):
    lines = ORIGINALS[file].splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    kind = draw(st.sampled_from(["cut", "twice", "drop", "indent", "insert", "value", "byte", "swap"]))
    place = draw(st.integers(0, len(line) - 1))
    if kind == "cut":
        lines[number:] = [line[:place]]
    elif kind == "twice":
        lines.insert(number, line)
    elif kind == "drop":
        del lines[number]
    elif kind == "indent":
        lines[number] = draw(st.sampled_from([" ", "  ", "\t"])) + line
    elif kind == "insert":
        lines[number] = line[:place] + draw(st.sampled_from(TEXTS)) + line[place:]
    elif kind == "value":
        lines[number] = line.partition(":")[0] + ": " + draw(st.sampled_from(TEXTS)) + "\n"
    elif kind == "swap":
        lines[number : number + 2] = reversed(lines[number : number + 2])
    content = "".join(lines).encode(errors="surrogatepass")
    if kind == "byte":
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
    return content, (kind, number + 1, place)


def asked_by_the_rules(catalog):
    """Go through all that the rules ask a catalog for; return the longest argument of a command line."""
    jobs = Jobs(catalog)
    texts = [shlex.join(catalog.mirrors), *(canonical_json(job.entry) for job in jobs)]
    assert jobs.wanted and all(jobs.pattern(job.step) for job in jobs.wanted if "/" in job.name)
    attacks = catalog.attacks.values()
    assert all(type(entry).parse(entry.dump()).dump() == entry.dump() for entry in attacks)
    return max(len(text.encode()) for text in texts)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A copy of the config files."""
    folder = tmp_path_factory.mktemp("mutated")
    shutil.copytree(ROOT / "config", folder / "config")
    return folder


TITLE, MODELS, ATTACKS = (study_file("deepdefense", part) for part in ("study", "models", "attacks"))
CERTAIN = {
    "NaN": ("config/config.yaml", "rate: 0.01", "rate: .nan", "verdict.rate: nan: out of range"),
    "a vast number": (MODELS, "batch_size: 100", "batch_size: 1" + "0" * 30, "out of range"),
    "a date": (TITLE, 'title: "DeepDefense', 'title: 2001-01-01 #"', "title: datetime.date"),
    "an impossible date": (TITLE, 'title: "DeepDefense', 'title: 2001-13-41 #"', "not YAML: month must be in 1..12"),
    "a number of 5 000 digits": ("config/config.yaml", "rate: 0.01", "rate: " + "1" * 5000, "not YAML: "),
    "a key that is a number": ("config/config.yaml", "scale: demo", "1: demo", "1: "),
    "a key that is nothing": ("config/config.yaml", "scale: demo", "null: demo", "None: a key is text or a number"),
    "an escape": ("config/config.yaml", "imagenet: null", r'imagenet: "\e"', "data.imagenet: '\\x1b': at most"),
    "long text": ("config/config.yaml", "imagenet: null", "imagenet: " + "x" * 20_000, "at most 10000 characters"),
    "a list": ("config/config.yaml", "scale: demo", "- demo\n#", "line "),
    "nested deeply": (
        "config/config.yaml",
        "imagenet: null",
        "imagenet: " + "[" * 2000 + "]" * 2000,
        "nested too deeply",
    ),
    "no seed": (MODELS, "seeds: [0, 1, 2]", "seeds: []", ".seeds: []: "),
    "a seed twice": (MODELS, "seeds: [0, 1, 2]", "seeds: [0, 0]", "a seed is given twice"),
    "rows of no run": (
        ATTACKS,
        "evaluations:\n",
        "evaluations:\n"
        "  - {attack: deepfool, models: [mnist-mlp-reference], reads: [{model: mnist-mlp-clean, attack: deepfool}]}\n",
        "evaluations.0.reads: no evaluation above runs attack 'deepfool' on 'mnist-mlp-clean'",
    ),
}


def test_a_study_outside_that_is_not_there_is_one_line(root):
    with pytest.raises(RedoubtError, match=r"^config/config\.yaml: studies: \.\./studies/deepdefense: no such file"):
        catalogs.load(root, {"studies": ["../studies/deepdefense"]}, {})


@pytest.mark.parametrize("name", ["Deep Defense", "deep;defense", "deepdefense-", "$deepdefense"])
def test_a_study_whose_name_cannot_be_a_target_is_one_line(name, root):
    shutil.copytree(root / "config/studies/deepdefense", root / "config/studies" / name)
    try:
        with pytest.raises(RedoubtError, match=r"studies\.0: '" + re.escape(name)):
            catalogs.load(root, {"studies": [name]}, {})
    finally:
        shutil.rmtree(root / "config/studies" / name)


@pytest.mark.parametrize("name", CERTAIN)
def test_a_certain_harm_is_refused(name, root):
    file, old, new, expected = CERTAIN[name]
    assert old in ORIGINALS[file]
    (root / file).write_text(ORIGINALS[file].replace(old, new, 1), encoding="utf-8")
    try:
        with pytest.raises(RedoubtError) as caught:
            asked_by_the_rules(catalogs.load(root, {"studies": ["deepdefense"]}, {}))
        line = " ".join(str(caught.value).split())
        assert line.startswith(f"{file}: ") and expected in line and len(line) < 1000, line
    finally:
        (root / file).write_text(ORIGINALS[file], encoding="utf-8")


@pytest.mark.parametrize(
    "examples",
    [
        20,
        pytest.param(
            200,
            marks=[
                pytest.mark.slow,
                pytest.mark.fault("a config file harmed at random", "config", EXPECTED, trials=200),
            ],
        ),
    ],
)
def test_a_harmed_config_is_valid_or_refused_in_one_line(examples, root, trial):
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=harmed())
    def check(case):
        file, content, _ = case
        scale = Path(file).relative_to("config/scales").parts[0].removesuffix(".yaml") if "/scales/" in file else "demo"
        (root / file).write_bytes(content)
        try:
            catalog = catalogs.load(root, {"scale": scale} if scale != "demo" else {}, {})
            assert asked_by_the_rules(catalog) < COMMAND_LINE
            trial("are valid")
        except RedoubtError as error:
            line = " ".join(str(error).split())
            assert LINE.fullmatch(line) and len(line) < 1000 and line.isprintable(), line
            trial("are refused")
        finally:
            (root / file).write_text(ORIGINALS[file], encoding="utf-8")

    check()
