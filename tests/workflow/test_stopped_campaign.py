"""A campaign that is stopped three times, on two machines, ends with the bytes of one run."""

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from redoubt_tree import environment, tiny_copy, untimed

from redoubt.tools import campaign

COMMAND = [sys.executable, "-m", "redoubt.tools.campaign", "--scale", "demo", "--cores", "1", "--minutes"]


def started(tree, until):
    """Start a campaign, and return it when some files are there."""
    running = subprocess.Popen(
        [*COMMAND, "20"], cwd=tree.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 300
    while len(list((tree.folder / "results/demo").glob("*/*/*/*"))) < until and time.monotonic() < end:
        assert running.poll() is None, "it ended before it could be stopped"
        time.sleep(0.02)
    return running


def when_free(lock):
    """Wait until nothing holds the lock: a step that a power cut would have ended with the rest may live a moment."""
    end = time.monotonic() + 60
    with lock.open("a") as file:
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.1)
    raise AssertionError("the lock of a killed campaign is still held")


def results(tree):
    """Return the digests of all results of the scale by their names; the seconds that the report tells left out."""
    root = tree.folder / "results/demo"
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]  # half-written
    contents = {path: path.read_bytes() for path in files}
    contents |= {path: untimed(content) for path, content in contents.items() if path.name == "index.html"}
    return {str(path.relative_to(root)): hashlib.sha256(content).hexdigest() for path, content in contents.items()}


def test_stopped_three_times_it_ends_with_the_bytes_of_one_run(tiny, finished_tree, tmp_path):
    running = started(tiny, until=4)
    second = tiny.run(*COMMAND, "0", check=False)
    assert second.returncode == 2 and "another campaign runs in this folder" in second.stderr
    running.terminate()
    assert running.wait(60) == 1
    running = started(tiny, until=8)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    running.kill()  # all at once, as in a power cut
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(child), signal.SIGKILL)
    running.wait()
    when_free(tiny.folder / campaign.LOCK)
    tiny.run(*COMMAND, "0.6", "--pack", tmp_path / "state.tar")
    there = tiny_copy(tmp_path / "there")
    there.run("tar", "-xf", tmp_path / "state.tar")
    known = results(there)
    assert known and known == results(tiny)
    said = there.run(*COMMAND, "20").stdout
    assert "all of scale demo is made" in said
    assert results(there) == results(finished_tree)
    assert not there.planned()
    assert not list((there.folder / "results/.resume").glob("*"))
