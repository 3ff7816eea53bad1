"""No step but download asks for the network, and no text of the config is read by a shell or by Snakemake."""

import json
import os
import subprocess
import sys

import pytest
import study_files
import yaml
from faulty import HOOK, NOWHERE, OUTPUTS, Run, refusal
from redoubt_tree import SCALE_FILE, tiny_copy

from redoubt.errors import RedoubtError
from redoubt.study import catalog as catalogs

OFFLINE = "the whole study is made without one request"
HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned ;",
    "a b",
    "a\ntouch pwned\n",
    "' touch pwned '",
    '" && touch pwned "',
    "{wildcards.model} {input} {{}}",
    "{",
    "../../pwned",
    "-x",
    "*",
    "~",
    "\\",
    "| tee pwned",
    "> pwned",
    "é ☃",
]
AS_IS = "reaches the step as it is, or is refused in one line; nothing of it is executed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=pytest.mark.fault("network cut off", step, OFFLINE))
        for step in ("pretrain", "defend", "attack", "table", "figure", "scorecard", "report")
    ],
)
def test_no_step_asks_for_the_network(step, finished_study, requests, trial):
    assert all((finished_study.folder / name).exists() for name in OUTPUTS[step])
    assert f"redoubt.steps.{step}" not in (requests.read_text() if requests.exists() else "")


@pytest.mark.slow
@pytest.mark.fault(
    "network cut off", "download", "one line that names the mirrors; the request is seen by the same watch"
)
def test_download_asks_for_the_network_and_says_so(study, command, tmp_path):
    run = Run(study, command("download"), FAULTS_OFFLINE=tmp_path / "requests")
    assert run.end() == 2
    assert "no mirror delivers it" in refusal(run) and NOWHERE in refusal(run)
    assert "redoubt.steps.download socket." in (tmp_path / "requests").read_text()


# -- hostile text -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The tiny study, never run."""
    return tiny_copy(tmp_path_factory.mktemp("hostile") / "redoubt")


def renamed(study, kind, old, new):
    """Give an entry another id, wherever the study uses it."""
    text = yaml.safe_dump(study, sort_keys=False)
    value = yaml.safe_load(text.replace(old, "PLACEHOLDER"))

    def walk(value):
        if isinstance(value, dict):
            return {walk(key): walk(part) for key, part in value.items()}
        if isinstance(value, list):
            return [walk(part) for part in value]
        return value.replace("PLACEHOLDER", new) if isinstance(value, str) else value

    return walk(value)


IDS = {"models": "digits-mlp-parseval", "attacks": "fgs-half", "artifacts": "table-1", "claims": "claim-1"}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.fault("hostile text as an id", "config", "refused in one line that names file and key")
def test_a_hostile_id_is_refused(text, tree):
    original = study_files.read(tree.folder)
    for kind, old in IDS.items():
        study_files.write(tree.folder, renamed(original, kind, old, text))
        try:
            with pytest.raises(RedoubtError, match=rf"^config/studies/deepdefense/(models|attacks|{kind})\.yaml: \1\."):
                catalogs.load(tree.folder, {}, {})
        finally:
            study_files.write(tree.folder, original)
    for changes in ({"scale": text}, {"studies": [text]}, {"device": text}):
        with pytest.raises(RedoubtError, match=rf"^config/config\.yaml: {next(iter(changes))}"):
            catalogs.load(tree.folder, changes, {})


@pytest.mark.parametrize("name", ["$(touch pwned)", "a b", "../studies/deepdefense", "x;y", "{scale}"])
@pytest.mark.fault("a study's folder with a hostile name", "config", "refused in one line that names file and key")
def test_a_study_with_a_hostile_name_is_refused(name, tree):
    file = f"config/studies/{name}/study.yaml"
    fresh = not (tree.folder / file).exists()
    tree.write(file, "title: A study\nreference: nobody, never\n")
    try:
        with pytest.raises(RedoubtError, match=r"^config/config\.yaml: studies(\.0)?: "):
            catalogs.load(tree.folder, {"studies": [name]}, {})
    finally:
        if fresh:
            (tree.folder / file).unlink()


def untouched(tree):
    """Assert that nothing of a hostile text has been executed."""
    assert not list(tree.folder.rglob("pwned*")) and not list(tree.folder.parent.glob("pwned*"))


@pytest.mark.slow
@pytest.mark.fault("hostile text in mirrors and folders", "download", AS_IS)
@pytest.mark.parametrize("source", ["mirrors", "imagenet", "environment"])
def test_hostile_places_reach_the_step_as_they_are(source, tree):
    texts = [text for text in HOSTILE if text not in ("../../pwned", "~")]
    dataset = "imagenet" if source == "imagenet" else "mnist"
    for text in ["".join(texts)] if source != "mirrors" else [None]:
        data = {"mirrors": texts} if text is None else {"imagenet": text} if source == "imagenet" else {}
        given = ["--config", f"data={json.dumps(data)}"] if data else []
        variables = ["env", f"REDOUBT_DATA_MIRROR={text}"] if source == "environment" else []
        log = tree.folder / f"logs/download/{dataset}.log"
        target = f"results/data/{dataset}/meta.json"
        done = tree.run(*variables, "snakemake", "--cores", "1", target, *given, check=False)
        assert done.returncode != 0 and log.exists(), done.stdout + done.stderr
        (line,) = log.read_text().splitlines()
        for part in texts if text is None else [text]:
            assert " ".join(part.split()) in line, (part, line)
        untouched(tree)


@pytest.mark.slow
@pytest.mark.fault("hostile text in titles, captions and labels", "table, figure, scorecard, report", AS_IS)
def test_hostile_words_reach_the_artifacts_as_they_are(study):
    text = " ".join(HOSTILE)
    value = study_files.read(study.folder)
    value["title"] = value["reference"] = text
    for artifact in value["artifacts"].values():
        artifact["title"] = artifact["caption"] = text
    value["artifacts"]["figure-4"]["parameters"]["panels"][0]["title"] = text
    value["claims"]["claim-1"]["statement"] = text
    value["baselines"]["digits-mlp-reference"]["labels"] = {"dataset": text, "network": text, "method": "Reference"}
    study_files.write(study.folder, value)
    scale = yaml.safe_load(study.read(SCALE_FILE))
    study.write(SCALE_FILE, yaml.safe_dump({**scale, "stamp": text}, allow_unicode=True))
    study.snakemake()
    for file in ("deepdefense/table-1.md", "deepdefense/figure-4.svg", "claims.csv", "report/index.html"):
        assert "touch pwned" in study.read(f"results/demo/{file}"), file
    untouched(study)


# -- config.yaml as Snakemake meets it --------------------------------------------------------------------------------

BROKEN = {
    "not YAML": ("scale: [demo\n", "config/config.yaml: line "),
    "a list": ("- scale\n- studies\n", "config/config.yaml: expected a mapping"),
    "not UTF-8": (b"scale: \xff\n", "config/config.yaml: "),
    "NaN": ("scale: demo\nverdict: {rate: .nan}\n", "config/config.yaml: verdict.rate: "),
    "a key twice": ("scale: demo\nscale: paper\n", "config/config.yaml: line 2: key 'scale' is given twice"),
    "an unknown key": ("scale: demo\ncolour: red\n", "config/config.yaml: colour: unknown key"),
    "a command": ("device: $(touch pwned)\n", "config/config.yaml: device: "),
    "nested deeply": ("data: " + "[" * 3000 + "]" * 3000 + "\n", "config/config.yaml: "),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.fault("broken config.yaml", "snakemake", "one line, no job"))
        for name in BROKEN
    ],
)
def test_snakemake_refuses_a_broken_config_in_one_line(name, tree):
    content, expected = BROKEN[name]
    file = tree.folder / "config/config.yaml"
    whole = file.read_bytes()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        done = tree.snakemake(check=False)
    finally:
        file.write_bytes(whole)
    text = done.stdout + done.stderr
    assert done.returncode != 0 and "Traceback" not in text
    chatter = ("Using workflow specific profile", "Assuming unrestricted")
    (line,) = [line for line in text.splitlines() if line.strip() and not line.startswith(chatter)]
    assert line.removeprefix("error: ").startswith(expected), line
    assert not (tree.folder / "results/demo").exists()
    untouched(tree)


def test_the_watch_on_the_network_sees_a_request(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    script = "import socket; socket.create_connection(('127.0.0.1', 9))"
    (tmp_path / "redoubt").mkdir()
    (tmp_path / "redoubt/__init__.py").touch()  # without it an installed redoubt goes first
    (tmp_path / "redoubt/steps.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "redoubt.steps"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "FAULTS_OFFLINE": str(tmp_path / "requests")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "the network was asked for" in done.stderr
    assert "socket.getaddrinfo" in (tmp_path / "requests").read_text()
