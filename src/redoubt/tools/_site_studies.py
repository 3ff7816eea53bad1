"""A page for each study, from the finished runs in results/reference: every number on it is one of their files."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from redoubt.files import read_json
from redoubt.judging.decided import totals
from redoubt.judging.tables import read_csv
from redoubt.report.tables import markdown
from redoubt.study.config import Config, Study
from redoubt.study.files import asked, read_study
from redoubt.tools import verdicts

UP = "../"  # from docs/ to the repository's root
VERDICTS = ("reproduced", "order only", "undecided", "deviates", "not-comparable", "not-run")


def pages(root: Path) -> dict[str, tuple[str, str, str]]:
    """Return title, what the page answers, and text of each study's page, by its place below docs/."""
    config: Config = asked(root, {})
    found = verdicts.claims(root / verdicts.REFERENCE)
    result = {}
    for name in config.studies:
        study = read_study(root, name)
        title = study.title.split(":")[0] if ":" in study.title else name.replace("_", " ").title()
        question = f"What does the paper on {title} claim, and what came out?"
        result[f"study-{name.replace('_', '-')}.md"] = (title, question, page(root, name, study, found))
    return result


def page(root: Path, name: str, study: Study, found: verdicts.Claims) -> str:
    """Return the page of a study: verdicts of its runs, claims, tables and figures, and where it leaves the paper."""
    runs = [run for run in found if (root / verdicts.REFERENCE / run / name).is_dir()]
    head = f"# {study.title}\n\n{study.reference}.\n\nMade from the files of "
    head += f"[results/reference]({UP}{verdicts.REFERENCE.as_posix()}/README.md), which says how each run was made"
    parts = [head + (" and what stands out.\n" if runs else ". No finished run of this study is kept there yet.\n")]
    if runs:
        parts += ["## Printed numbers beside ours\n", _counts(root, name, runs)]
    parts += ["## Claims\n", _claims(name, study, found, runs)]
    for run in runs:
        parts += [f"## Run {run}\n", _drawn(root, name, study, run)]
    if study.deviations:
        rows = [[deviation.topic, deviation.choice] for deviation in study.deviations]
        parts += ["## Where the paper is silent or not followed\n", markdown(["topic", "choice"], rows)]
    return "\n".join(parts)


def _counts(root: Path, name: str, runs: Iterable[str]) -> str:
    """Return how many printed numbers have which verdict in each run."""
    rows = []
    for run in runs:
        folder = verdicts.REFERENCE / run
        scored = read_csv(root / folder / "scorecard.csv", ("study", "verdict"))
        counts = Counter(row["verdict"] for row in scored if row["study"] == name)
        made = read_json(root / folder / "provenance.json")
        cells = [f"[{run}](#run-{run})", made["scale"], f"`{made['commit'][:7]}`"]
        shown = [str(counts[verdict]) if counts[verdict] else "–" for verdict in VERDICTS]
        rows.append([*cells, *shown, f"[CSV]({UP}{folder.as_posix()}/scorecard.csv)"])
    text = markdown(["run", "scale", "drawn by commit", *VERDICTS, "all numbers"], rows)
    return f"{text}\n[All verdicts]({UP}config/README.md#verdicts-on-cells) says what the words mean.\n"


def _claims(name: str, study: Study, found: verdicts.Claims, runs: list[str]) -> str:
    """Return every claim with its verdict on the printed numbers and in each run."""
    rows = []
    for key, claim in study.claims.items():
        known = {run: row for run in runs for row in totals(found[run]) if (row.study, row.claim) == (name, key)}
        decided = next((row for row in known.values() if row.said != "not-run"), None)
        said = [known[run].said if run in known else "not-run" for run in runs]
        stated = decided or claim  # a claim may have been worded otherwise when it was decided
        printed = next((row.published_verdict for row in known.values()), "not-run")
        cells = [_shown(verdict) for verdict in (printed, *said)]
        rows.append([key, f"{stated.statement} ({stated.where})", *cells])
    lead = "“Printed” is the verdict of the same checks on the numbers that the paper prints; – stands for not run."
    columns = ["claim", "of the paper", "printed", *runs] if runs else ["claim", "of the paper"]
    return f"{lead}\n\n{markdown(columns, rows)}" if runs else markdown(columns, [row[:2] for row in rows])


def _shown(verdict: str) -> str:
    return "–" if verdict == "not-run" else verdict


def _drawn(root: Path, name: str, study: Study, run: str) -> str:
    """Return the figures of a run with their captions, and links to its tables."""
    folder, tables, figures, stamp = verdicts.REFERENCE / run / name, [], [], ""
    for file in sorted((root / folder).glob("*.csv")):
        place, entry = f"{UP}{(folder / file.stem).as_posix()}", study.artifacts.get(file.stem)
        if (page := file.with_suffix(".md")).is_file():
            lines = page.read_text(encoding="utf-8").splitlines()
            stamp = stamp or lines[2].strip("_")
            tables.append(f"- [{lines[0].removeprefix('# ')}]({place}.md) ([CSV]({place}.csv))")
        else:
            title = entry.title if entry else file.stem
            caption = f"\n\n{entry.caption}" if entry else ""
            figures.append(
                f"### {title}\n\n![{title}]({place}.png)\n\n[CSV]({place}.csv) · [SVG]({place}.svg){caption}\n"
            )
    lead = f"_{stamp[:1].upper()}{stamp[1:]}._\n" if stamp else ""
    return "\n".join(filter(None, [lead, "\n".join(tables) + "\n" if tables else "", *figures]))
