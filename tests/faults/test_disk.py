"""A disk that is full or read-only: one line, nothing half written, and the step continues once that is fixed."""

import errno
import os
import shutil
import subprocess

import pytest
from faulty import NOWHERE, OUTPUTS, Mirror, contents, forget, refusal, temporaries

FULL = "exit code not 0, one line that names the file and the remedy, nothing half written; goes on once there is room"
LOCKED = "exit code not 0, one line that names the file and the remedy, nothing changed; runs once it is writable"
PLACE = 64  # MiB of the small disk


@pytest.fixture
def disk(study):
    """A small separate disk under `results` of the study."""
    results, aside = study.folder / "results", study.folder / "aside"
    results.rename(aside)
    results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={PLACE}m", "tmpfs", results], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here ({mounted.stderr.strip().splitlines()[-1].split(': ')[-1]})")
    try:
        shutil.copytree(aside, results, dirs_exist_ok=True)
        yield results
    finally:
        subprocess.run(["umount", "--lazy", results], check=True)


def fill(disk, left):
    """Write a file that leaves the given number of bytes free; return it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        free = shutil.disk_usage(disk).free - left
        while free > 0:
            try:
                free -= stream.write(b"\0" * min(free, 2**20))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                break
    return filler


def command_of(step, command, mirror):
    return command(step).replace(NOWHERE, mirror.url)


@pytest.fixture(scope="module")
def mirror():
    """A mirror of a small MNIST that takes no time."""
    with Mirror(seconds=0) as server:
        yield server
        server.shutdown()


def whole(study, command, step, mirror, again):
    """Run a step as it should run; return its command line, and all results before and after it."""
    text = command_of(step, command, mirror)
    forget(study, step)
    before = contents(study)
    assert again(study, text).end() == 0
    after = contents(study)
    forget(study, step)
    return text, before, after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "share"),
    [pytest.param(step, 0, marks=pytest.mark.fault("disk full", step, FULL)) for step in OUTPUTS]
    + [
        pytest.param(step, 0.6, marks=pytest.mark.fault("disk full halfway", step, FULL))
        for step in ("download", "defend", "figure")
    ],
)
def test_a_full_disk(step, share, study, command, mirror, again, disk):
    text, before, after = whole(study, command, step, mirror, again)
    size = shutil.disk_usage(disk).free
    filler = fill(disk, 0)
    if share:
        filler.unlink()
        assert again(study, text).end() == 0
        used = size - shutil.disk_usage(disk).free
        forget(study, step)
        filler = fill(disk, int(share * used))
    run = again(study, text)
    assert run.end() != 0
    line = refusal(run)
    assert "results/" in line and "no space" in line and ("make room" in line or "free some" in line), line
    filler.unlink()
    found = contents(study)
    kept = temporaries(found)
    assert {name: found[name] for name in found if name not in kept} == before, line
    assert all("/.resume/" in name or "/.partial/" in name for name in kept)
    assert again(study, text).end() == 0
    assert contents(study) == after


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=pytest.mark.fault("results read-only", step, LOCKED)) for step in OUTPUTS]
)
def test_results_that_are_read_only(step, study, command, mirror, again, disk):
    text, before, after = whole(study, command, step, mirror, again)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        run = again(study, text)
        assert run.end() != 0
        line = refusal(run)
        assert "results/" in line and "read-only" in line and "make it writable" in line, line
        assert contents(study) == before
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert again(study, text).end() == 0
    assert contents(study) == after


@pytest.mark.slow
@pytest.mark.fault("disk full, the log on it too", "table", "exit code not 0, nothing half written")
def test_a_full_disk_that_holds_the_log_too(study, command, mirror, again, disk):
    text, before, _ = whole(study, command, "table", mirror, again)
    filler = fill(disk, 0)
    log = disk / "log"
    log.touch()
    done = subprocess.run(
        text.split(" > ")[0] + f" > {log} 2>&1", shell=True, cwd=study.folder, env=os.environ, check=False
    )
    assert done.returncode not in (0, 1), log.read_text()
    filler.unlink()
    log.unlink()
    assert contents(study) == before


@pytest.mark.slow
@pytest.mark.fault("disk full", "Snakemake", "tells the step's line and continues once there is room")
def test_snakemake_on_a_full_disk(study, disk):
    before = contents(study)
    forget(study, "attack")
    filler = fill(disk, 0)
    failed = study.snakemake(OUTPUTS["attack"][0], check=False)
    assert failed.returncode != 0
    assert "no space is left on the disk; make room" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
    filler.unlink()
    assert not (study.folder / OUTPUTS["attack"][0]).exists()
    study.snakemake(OUTPUTS["attack"][0])
    assert contents(study) == before
