"""What the Makefile sets before it runs anything."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = "XDG_CACHE_HOME", "MPLCONFIGDIR", "PYTHONUTF8"


@pytest.mark.parametrize(
    ("home", "own"),
    [("here", False), ("nowhere", True), ("here", True)],
    ids=["as usual", "no home", "XDG_CACHE_HOME read-only"],
)
def test_caches_go_to_the_checkout_where_the_home_is_read_only(home, own, tmp_path):
    folder = tmp_path if home == "here" else Path("/proc/nowhere")
    given = {key: value for key, value in os.environ.items() if key not in SHOWN} | {"HOME": str(folder)}
    if own and home == "here":
        given["XDG_CACHE_HOME"] = "/proc/nowhere"
    rule = "show: ; @echo " + " ".join(f"'$({name})'" for name in SHOWN)
    command = ["make", "--no-print-directory", "-C", ROOT, "--eval", rule, "show"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    cache = f"{ROOT}/.snakemake/cache"
    assert done.stdout.split() == ([cache, f"{cache}/matplotlib", "1"] if own else ["1"])


def test_modules_are_compiled_once_whatever_the_shell_asks_for():
    given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    rule = "show: ; @python3 -c 'import sys; print(sys.dont_write_bytecode)'"
    command = ["make", "--no-print-directory", "-C", ROOT, "--eval", rule, "show"]
    assert subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout == "False\n"
