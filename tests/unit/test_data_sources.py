"""Datasets by name: digests that are well formed, mirrors that are parsed, reasons that are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redoubt
from redoubt.data import sources
from redoubt.data.sources import ENVIRONMENT, SOURCES, mirrors, unavailable
from redoubt.errors import RedoubtError

NAMES = {
    "digits",
    "digits-rgb",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "cifar10-jpeg",
    "imagenet",
}


def test_sources_loads_neither_torch_nor_numpy():
    check = "import sys, redoubt.data.sources; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": str(Path(redoubt.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", check], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_dataset_of_the_design_is_there():
    assert set(SOURCES) == NAMES
    assert all(source.name == name for name, source in SOURCES.items())
    assert {name for name, source in SOURCES.items() if source.embedded} == {"digits", "digits-rgb"}


@pytest.mark.parametrize("file", [file for source in SOURCES.values() for file in source.files], ids=lambda f: f.path)
def test_every_file_can_be_verified_and_is_fetched_over_https_only(file):
    assert all(url.startswith("https://") for url in file.urls)
    digests = [digest for digest in (file.sha256, file.content_sha256) if digest]
    assert digests and all(len(digest) == 64 and int(digest, 16) >= 0 for digest in digests)
    assert file.md5 is None or len(file.md5) == 32
    assert file.limit is not None
    assert not Path(file.path).is_absolute() and ".." not in Path(file.path).parts


def test_classes_are_distinct_and_as_many_as_published():
    assert {len(set(SOURCES[name].classes)) for name in NAMES - {"cifar100", "imagenet"}} == {10}
    assert len(set(SOURCES["cifar100"].classes)) == 100
    assert list(SOURCES["cifar100"].classes) == sorted(SOURCES["cifar100"].classes)


def test_an_unknown_dataset_is_told_with_those_that_exist():
    with pytest.raises(RedoubtError, match="'mnits' is not a dataset; choose one of digits, "):
        sources.source("mnits")


@pytest.mark.parametrize(
    ("configured", "environment", "expected"),
    [
        ([], None, ["official"]),
        ([], "", ["official"]),
        (["/a"], None, ["/a"]),
        (["/a", "official"], None, ["/a", "official"]),
        (["/a"], "/b", ["/b", "/a"]),
        (["/a"], "/a:/b", ["/a", "/b"]),
        ([], "https://host/x:/b", ["https://host/x", "/b"]),
        ([], "/b:https://host:8443/x:http://other", ["/b", "https://host:8443/x", "http://other"]),
        ([], "https://host:8443:/b", ["https://host:8443", "/b"]),
        ([], "https://host:/b", ["https://host", "/b"]),
        ([], "http://[::1]:80/x:official", ["http://[::1]:80/x", "official"]),
        ([], "HTTPS://host:/b", ["HTTPS://host", "/b"]),
        ([], ":/b::", ["/b"]),
        ([" "], " /with space : ", ["/with space"]),
    ],
)
@pytest.mark.skipif(os.pathsep != ":", reason="the list is written with ':'")
def test_mirrors(configured, environment, expected):
    environ = {} if environment is None else {ENVIRONMENT: environment}
    assert mirrors(configured, environ) == expected


HOST = st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True)
URL = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    HOST,
    st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}")),
    st.from_regex(r"(/[a-zA-Z0-9._~%-]{0,8}){0,3}", fullmatch=True),
)
FOLDER = st.from_regex(r"(/[a-zA-Z0-9._-]{1,8}){1,3}", fullmatch=True)


@given(st.lists(URL | FOLDER | st.just("official"), min_size=1, max_size=5, unique=True))
def test_mirrors_survive_being_joined(given_mirrors):
    assert mirrors([], {ENVIRONMENT: os.pathsep.join(given_mirrors)}) == given_mirrors


def test_embedded_and_published_datasets_are_always_available(tmp_path):
    assert unavailable("digits", ["/nowhere"], None, tmp_path) is None
    assert unavailable("mnist", ["/nowhere"], None, tmp_path) is not None
    (tmp_path / "meta.json").write_text("{}")
    assert unavailable("mnist", ["/nowhere"], None, tmp_path) is None
    assert unavailable("imagenet", [], None, tmp_path) is None


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    reason = unavailable("cifar10", ["/a", "/b"], None, tmp_path)
    assert reason == (
        "cifar10: cifar10/cifar-10-binary.tar.gz is in none of the data mirrors; "
        "add it there, or add 'official' to data.mirrors"
    )


def test_a_dataset_without_official_source_needs_a_mirror(tmp_path):
    assert "no official source" in unavailable("cifar10-jpeg", ["official"], None, tmp_path)
    reason = unavailable("cifar10-jpeg", ["official", "/a"], None, tmp_path)
    assert "none of the data mirrors; " in reason and "add 'official'" not in reason
    assert unavailable("cifar10-jpeg", ["https://host"], None, tmp_path) is None


def test_mirrors_may_share_the_files_of_a_dataset(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for number, file in enumerate(SOURCES["mnist"].files):
        path = (first, second)[number % 2] / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    published = tmp_path / "published"
    assert unavailable("mnist", [str(first), str(second)], None, published) is None
    assert "train-labels" in unavailable("mnist", [str(first)], None, published)
    assert unavailable("mnist", [str(first), "official"], None, published) is None


def test_imagenet_needs_a_folder_with_train_and_val(tmp_path):
    published, folder = tmp_path / "published", tmp_path / "ilsvrc"
    assert unavailable("imagenet", ["official"], None, published).startswith("imagenet: set data.imagenet in config/")
    assert "has no train/" in unavailable("imagenet", [], folder, published)
    (folder / "train").mkdir(parents=True)
    assert "has no val/" in unavailable("imagenet", [], folder, published)
    (folder / "val").mkdir()
    assert unavailable("imagenet", [], folder, published) is None


def test_a_place_that_the_locale_cannot_write_is_one_line(tmp_path):
    code = (
        "from redoubt.data import sources\n"
        "place = '/m\\xe9'\n"
        "for ask in (lambda: sources.mirrors([place], {}), lambda: sources.unavailable('imagenet', [], place, '.')):\n"
        "    try: ask()\n"
        "    except sources.RedoubtError as error: print(error)"
    )
    given = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    mirrors, imagenet = done.stdout.splitlines()
    expected = r"'/m\xe9' cannot be written in this locale's encoding (ascii); set PYTHONUTF8=1, or a UTF-8 locale"
    assert mirrors == f"config/config.yaml: data.mirrors: {expected}"
    assert imagenet == f"config/config.yaml: data.imagenet: {expected}"
