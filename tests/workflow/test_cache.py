"""Damaged objects in DVC's cache or remote: found, named, never used."""

import os

import yaml

WEIGHTS = "results/demo/models/digits-mlp-parseval/seed-0/weights.safetensors"


def kept(tree, file):
    """Return where an object of DVC lies, below a cache or a remote."""
    stages = yaml.safe_load(tree.read("dvc.lock"))["stages"].values()
    (digest,) = {out["md5"] for stage in stages for out in stage["outs"] if out["path"] == file}
    return f"files/md5/{digest[:2]}/{digest[2:]}"


def flip(path):
    """Flip one bit in the middle of a file; its size and time stay."""
    before, mode = path.stat(), path.stat().st_mode
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def restore(tree, *arguments):
    return tree.run("python", "-m", "redoubt.tools.restore", *arguments, check=False)


def test_a_damaged_object_in_the_remote_is_named_and_not_used(clone):
    place = kept(clone, WEIGHTS)
    remote = clone.folder.parent / "store" / place
    flip(remote)
    done = restore(clone)
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and WEIGHTS in line and place in line and "damaged" in line
    assert not (clone.folder / WEIGHTS).exists()
    assert not (clone.folder / ".dvc/cache" / place).exists()
    assert clone.planned() == {"report_page": 1} and clone.planned(WEIGHTS) == {"defend": 1}
    flip(remote)
    assert restore(clone).stdout == "restored 16 stages; nothing is left to be done\n"


def test_a_damaged_object_in_the_local_cache_is_fetched_anew_and_never_pushed(clone, saved):
    whole = (saved.folder / WEIGHTS).read_bytes()
    cached = clone.folder / ".dvc/cache" / kept(clone, WEIGHTS)
    clone.run("dvc", "fetch")
    flip(cached)
    done = restore(clone)
    assert done.stdout == (
        f"restored 16 stages; damaged here and fetched again: {WEIGHTS}; nothing is left to be done\n"
    ), done.stderr
    assert (clone.folder / WEIGHTS).read_bytes() == cached.read_bytes() == whole
    flip(cached)
    other = clone.folder.parent / "other"
    clone.run("dvc", "remote", "modify", "-q", "store", "url", other)
    assert restore(clone, "--save").returncode == 0
    assert (other / kept(clone, WEIGHTS)).read_bytes() == whole
