"""What `make restore` trusts: a stand-in for DVC copies objects as they are, as DVC does."""

import hashlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from redoubt.errors import RedoubtError
from redoubt.tools import restore

FILES = {"results/demo/a.csv": b"first file", "results/demo/b.csv": b"second file"}


class Dvc:
    """A remote, a cache and a workspace; `pull` copies what is missing from one to the next, unseen."""

    def __init__(self, root):
        self.root, self.remote, self.cache = root, root / "remote", root / "cache"
        digests = {file: hashlib.md5(content).hexdigest() for file, content in FILES.items()}
        self.objects = {file: restore._object(digest) for file, digest in digests.items()}
        for file, content in FILES.items():
            self.put(self.remote / self.objects[file], content)
        outs = [{"path": file, "md5": digest} for file, digest in digests.items()]
        (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"table@a": {"outs": outs}}}))
        self.pulls = 0

    @staticmethod
    def put(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def __call__(self, *command, problem):
        if command[:2] == ("dvc", "cache"):
            return f"{self.cache}\n"
        assert command == ("dvc", "pull", "--allow-missing", "table"), problem
        self.pulls += 1
        for file, place in self.objects.items():
            for source, target in ((self.remote / place, self.cache / place), (self.cache / place, self.root / file)):
                if source.exists() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
        return ""


@pytest.fixture
def dvc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_in = Dvc(tmp_path)
    monkeypatch.setattr(restore, "_call", stand_in)
    return stand_in


def pull(dvc):
    return restore._pull(dvc.root, ["table@a"], restore._lock()["table@a"])


def contents(dvc):
    return {file: Path(dvc.root / file).read_bytes() for file in FILES if (dvc.root / file).exists()}


def test_whole_files_are_pulled_once(dvc):
    assert pull(dvc) == restore.Pulled([], [], []) and dvc.pulls == 1
    assert contents(dvc) == FILES


@pytest.mark.parametrize("where", ["cache", "workspace"])
def test_a_damaged_copy_here_is_fetched_anew_and_named(dvc, where):
    file = "results/demo/b.csv"
    dvc.put(dvc.root / file if where == "workspace" else dvc.cache / dvc.objects[file], b"second\x00file")
    assert pull(dvc) == restore.Pulled([file], [], []) and dvc.pulls == 2
    assert contents(dvc) == FILES
    assert (dvc.cache / dvc.objects[file]).read_bytes() == FILES[file]


def test_a_damaged_copy_in_the_remote_is_named_and_nothing_of_it_stays(dvc):
    file = "results/demo/a.csv"
    dvc.put(dvc.remote / dvc.objects[file], b"First file")
    found = pull(dvc)
    assert found == restore.Pulled([], [file], [])
    (line,) = found.problems(restore._lock()["table@a"])
    assert file in line and dvc.objects[file] in line and "damaged in the DVC remote" in line
    assert set(contents(dvc)) == {"results/demo/b.csv"}
    assert not (dvc.cache / dvc.objects[file]).exists()


def test_a_file_that_the_remote_lacks_is_named_and_does_not_hide_a_damaged_one(dvc):
    lost, damaged = FILES
    (dvc.remote / dvc.objects[lost]).unlink()
    dvc.put(dvc.remote / dvc.objects[damaged], b"second\x00file")
    found = pull(dvc)
    assert found == restore.Pulled([], [damaged], [lost])
    assert lost in found.problems(restore._lock()["table@a"])[1]
    assert not contents(dvc) and not (dvc.cache / dvc.objects[damaged]).exists()


def test_the_line_that_names_the_error_is_told():
    shown = "import sys; print('Using a profile.', file=sys.stderr); print('error: mnist: no mirror'); sys.exit(1)"
    with pytest.raises(RedoubtError, match=r"^download: mnist: no mirror$"):
        restore._call(sys.executable, "-c", shown, problem="download")
    with pytest.raises(RedoubtError, match=r"^dvc pull: last$"):
        restore._call(sys.executable, "-c", "import sys; print('first'); sys.exit('last')", problem="dvc pull")


@pytest.mark.parametrize(
    "content",
    [
        b"stages: [",
        b"a text",
        b"",
        b"stages: 3",
        b"stages: {a: {outs: [{path: a}]}}",
        b"stages:\n  a: 1",
        b"\xff\xfe",
    ],
)
def test_a_damaged_lock_is_one_line(dvc, content):
    (dvc.root / "dvc.lock").write_bytes(content)
    with pytest.raises(RedoubtError, match=r"^dvc\.lock: damaged \(.+\); take it from git again") as caught:
        restore._lock()
    assert "\n" not in str(caught.value)


def test_a_damaged_object_of_the_cache_is_dropped_before_a_commit(dvc):
    pull(dvc)
    damaged, whole = FILES
    dvc.put(dvc.cache / dvc.objects[damaged], b"First file")
    restore._drop_damaged(dvc.root, FILES)
    assert not (dvc.cache / dvc.objects[damaged]).exists()
    assert (dvc.cache / dvc.objects[whole]).exists() and contents(dvc) == FILES


def test_what_preprocessing_has_learned_is_kept_for_its_entry_and_code_alone(tmp_path, monkeypatch):
    digests = {"prepared/a.dvc": "1", "prepared/b.dvc": "2", "prepared/c.dvc": "3"}
    monkeypatch.setattr(restore, "_made_from", lambda _: digests)
    (tmp_path / "prepared").mkdir()
    for name, made_from in (("a", "1"), ("b", "other")):
        content = {"meta": {"made_from": made_from}, "outs": [{"path": name, "md5": "0"}]}
        (tmp_path / f"prepared/{name}.dvc").write_text(yaml.safe_dump(content))
    jobs = SimpleNamespace(catalog=SimpleNamespace(root=tmp_path))
    assert restore._kept(jobs) == {"prepared/a.dvc": {"a": "0"}}
