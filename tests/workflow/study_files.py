"""A study's folder as one mapping, or as one text, for tests that change it."""

import re
from pathlib import Path

import yaml

from redoubt.layout import study_file
from redoubt.study.config import PARTS
from redoubt.study.expand import LISTS, expanded

HOME = {key: part for part, record in PARTS.items() for key in record.model_fields} | {LISTS: "artifacts"}


def file_of(key, study="deepdefense"):
    """Return the file of a study that has a key."""
    return study_file(study, HOME[key])


def read(folder, study="deepdefense"):
    """Return all keys of a study's files, as they are written; artifacts as they are expanded."""
    files = (Path(folder) / study_file(study, part) for part in PARTS)
    return {key: value for file in files if file.is_file() for key, value in load(file).items()}


def load(file):
    """Return the content of a config file, artifacts as they are expanded."""
    value = yaml.safe_load(file.read_text())
    return expanded("artifacts", value, file.name) if "artifacts" in value else value


def write(folder, value, study="deepdefense"):
    """Write the keys of a study to their files."""
    for part in PARTS:
        own = {key: value[key] for key in value if HOME[key] == part}
        text = yaml.safe_dump(own, sort_keys=False, allow_unicode=True)
        (Path(folder) / study_file(study, part)).write_text(text, encoding="utf-8")


def split(text, study="deepdefense"):
    """Return the texts of a study's files by their names, from a text with all keys."""
    files = dict.fromkeys((study_file(study, part) for part in PARTS), "")
    for part in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE):
        if part:
            files[file_of(part.partition(":")[0], study)] += part
    return {file: own or "{}\n" for file, own in files.items()}
