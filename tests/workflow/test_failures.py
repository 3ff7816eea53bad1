"""Causes of failed jobs at the end of a run, and runs that are refused before any job."""

from types import SimpleNamespace

import pytest

from redoubt.graph import failures

BROKEN = """def build(source):
    from redoubt.errors import RedoubtError
    raise RedoubtError('é: out of\\n luck')


def _old("""


@pytest.fixture
def job(tmp_path):
    """Function (rule, text) to a failed job whose log holds the text."""

    def make(rule, text):
        log = tmp_path / f"{rule}.log"
        if text is not None:
            log.write_text(text)
        return SimpleNamespace(rule=SimpleNamespace(name=rule), log=[str(log)], is_group=lambda: False)

    return make


def test_the_last_error_of_every_failed_job_is_one_line(job, tmp_path):
    group = SimpleNamespace(
        jobs=[job("table", "error: one\nerror: two\nbye\n"), job("figure", "\n")], is_group=lambda: True
    )
    failed = [group, job("attack", None), job("defend", "Traceback\nValueError: x\n")]
    assert failures.causes(failed) == (
        "4 failed jobs:\n"
        f"  attack: no message; it was killed, or did not start ({tmp_path}/attack.log)\n"
        f"  defend: ValueError: x ({tmp_path}/defend.log)\n"
        f"  figure: no message; it was killed, or did not start ({tmp_path}/figure.log)\n"
        f"  table: error: two ({tmp_path}/table.log)"
    )


def test_the_demo_command_shows_why_a_job_failed(tiny):
    tiny.replace("src/redoubt/data/digits.py", "def build(", BROKEN)
    command = ["python", "-m", "redoubt.graph.warm", "snakemake", "--cores", "1", "--quiet", "rules"]
    done = tiny.run(*command, check=False)
    assert done.returncode == 1
    *_, end = done.stderr.partition("1 failed job:\n")
    assert end.startswith("  download: error: é: out of luck (logs/download/digits.log)\n") and end.count("\n") <= 6


def test_another_working_directory_is_refused_before_any_job(tiny, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    for arguments in (["--directory", str(elsewhere)], ["-n", "--directory", str(elsewhere)]):
        done = tiny.snakemake(*arguments, check=False)
        assert done.returncode != 0
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
        assert line.startswith(
            f"error: {elsewhere} has no config/config.yaml; run Snakemake where config and results are"
        )
        assert not list(elsewhere.glob("[!.]*"))
