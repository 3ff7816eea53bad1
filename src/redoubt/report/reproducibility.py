"""A reproducibility summary of each paper, under the headings of the ML Reproducibility Challenge (reproml.org).

Every sentence is made from `results.json`: claims, verdicts on cells, and what the ledger of the study says. What was
easy is what was reproduced; what was difficult is what was not, with the reason.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from redoubt.judging.claims import ALL
from redoubt.judging.decided import Row
from redoubt.judging.results import Results, StudyResults, Traced
from redoubt.report.tables import markdown
from redoubt.report.views import CELL_VERDICTS, CLAIM_VERDICTS

REASONS = 5  # of a kind that a page names; it counts the others


def pages(found: Results) -> str:
    """Return the summaries of all studies, one after the other, as Markdown."""
    return "\n---\n\n".join(page(found, study) for study in found.studies)


def page(found: Results, study: str) -> str:
    """Return the summary of one study, as Markdown."""
    own = found.studies[study]
    cells = [cell for cell in own.cells if cell.not_counted is None]
    claims = [row for row in own.claims if row.dataset == ALL and not row.check]
    parts = {
        "Scope of reproducibility": _scope(own, claims),
        "Methodology": _methodology(found, own),
        "Results": _results(found, cells, claims),
        "What was easy": _easy(cells, claims),
        "What was difficult": _difficult(own, cells, claims),
        "Deviations": _deviations(own),
        "Communication with the authors": ["The study records none."],
    }
    about = f"{own.reference}. Study `{study}`, scale `{found.scale}`: {found.stamp}."
    return f"# Reproducibility summary: {own.title}\n\n{about}\n" + "".join(
        f"\n## {heading}\n\n" + "\n".join(lines) + "\n" for heading, lines in parts.items()
    )


def _scope(own: StudyResults, claims: list[Row]) -> list[str]:
    printed = sum(cell.published is not None for cell in own.cells)
    kinds = Counter(artifact.kind for artifact in own.artifacts.values())
    numbers = f"{_many(printed, 'printed number')} of tables and on ours"
    lines = [
        f"{_many(len(claims), 'claim')} of the paper, decided by tests on {numbers}; "
        f"{_many(kinds['table'], 'table')} and {_many(kinds['figure'], 'figure')}.",
        "",
    ]
    rows = []
    for row in claims:
        text = own.titles.get(row.claim) or row.statement
        rows.append([row.claim, text, row.published_verdict, row.said, row.adaptive_verdict or "not-run"])
    table = markdown(["claim", "of the paper", "printed", "ours", "under strong attacks"], rows)
    return [*lines, table.rstrip("\n")]


def _methodology(found: Results, own: StudyResults) -> list[str]:
    models = own.models.values()
    runs = [run for model in models for run in model.runs if run.weights is not None]
    versions = {(run.versions.get("python"), run.versions.get("torch"), run.device) for run in runs}
    with_what = [f"Python {python}, torch {torch} on {device}" for python, torch, device in sorted(versions, key=str)]
    attacks = _many(len(own.attacks), "attack and probe", "attacks and probes")
    return [
        f"{_many(len(models), 'model')} of {_named(model.network for model in models)} on "
        f"{_named(model.dataset for model in models)}, with {_named(model.defense for model in models)}; "
        f"{_many(len(runs), 'training run')} of {sum(len(model.runs) for model in models)} declared. "
        f"{attacks}: {_named(each.method for each in own.attacks.values())}.",
        "",
        f"Trained with {'; '.join(with_what) or 'nothing yet'}. Configuration `{found.config}`.",
    ]


def _results(found: Results, cells: list[Traced], claims: list[Row]) -> list[str]:
    lowered = [cell for cell in cells if cell.worse]
    adapted = [cell for cell in cells if cell.adaptive is not None]
    strong = [row.adaptive_verdict or "not-run" for row in claims]
    return [
        f"- Cells: {_counted((cell.verdict for cell in cells), CELL_VERDICTS)}.",
        f"- Claims, on our numbers: {_counted((row.said for row in claims), CLAIM_VERDICTS)}.",
        f"- Claims, under strong attacks: {_counted(strong, CLAIM_VERDICTS)}.",
        f"- Strong attacks answer {_many(len(adapted), 'cell')}; {len(lowered)} are worse than under the paper's own.",
        *([] if found.comparable else ["- Numbers of this scale may not be held against the paper's."]),
    ]


def _easy(cells: list[Traced], claims: list[Row]) -> list[str]:
    tables: dict[str, list[Traced]] = {}
    for cell in cells:
        tables.setdefault(cell.artifact, []).append(cell)
    whole = [name for name, own in tables.items() if all(cell.reproduced is not None for cell in own)]
    alike = [name for name, own in tables.items() if all(cell.verdict.startswith("reproduced") for cell in own)]
    return [
        f"- Claims that hold on our numbers: {_listed(row.claim for row in claims if row.said == 'holds')}.",
        f"- Tables of which every number is reproduced: {_listed(alike)}.",
        f"- Tables of which every number could be computed: {_listed(whole)}.",
    ]


def _difficult(own: StudyResults, cells: list[Traced], claims: list[Row]) -> list[str]:
    lines = []
    for verdict, text in (("fails", "fail"), ("undecided", "are undecided"), ("not-run", "were not run")):
        ids = [row.claim for row in claims if row.said == verdict]
        lines += [f"- Claims that {text}: {', '.join(ids)}."] if ids else []
    for verdict in ("deviates", "order only", "undecided"):
        names = Counter(cell.artifact for cell in cells if cell.verdict == verdict)
        lines += (
            [f"- Cells that are “{verdict}”: {', '.join(f'{n} of {name}' for name, n in names.items())}."]
            if names
            else []
        )
    missing = Counter(model.missing for model in own.models.values() if model.missing)
    lines += [f"- Not available: {reason} ({_many(n, 'model')})." for reason, n in missing.items()]
    reasons = Counter(cell.reason for cell in cells if cell.reproduced is None and cell.reason)
    for reason, n in reasons.most_common(REASONS):
        lines.append(f"- No number in {_many(n, 'cell')}: {reason}.")
    if len(reasons) > REASONS:
        lines.append(f"- No number for {len(reasons) - REASONS} other reasons, named in the scorecard.")
    red = [f"{gate.label}: {gate.check}" for gate in own.gates if gate.gate == "red"]
    lines += [f"- Red gates, so that accuracy under attack shows little: {'; '.join(red)}."] if red else []
    return lines or ["Nothing that the results tell."]


def _deviations(own: StudyResults) -> list[str]:
    first = f"The paper is silent, ambiguous or not followed in {_many(len(own.deviations), 'place')}"
    return [f"{first}: {'; '.join(each.topic for each in own.deviations)}." if own.deviations else f"{first}."]


def _many(number: int, name: str, names: str | None = None) -> str:
    return f"{number} {name if number == 1 else names or f'{name}s'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _named(names: Iterable[str]) -> str:
    return _listed(sorted(set(names)))


def _counted(found: Iterable[str], verdicts: Iterable[str]) -> str:
    counts = Counter(found)
    return ", ".join(_nonzero(counts, verdicts)) or "none"


def _nonzero(counts: Counter[str], verdicts: Iterable[str]) -> Iterator[str]:
    for verdict in verdicts:
        if counts[verdict]:
            yield f"{counts[verdict]} {verdict}"
