"""The report on paper: no column of a wide table is cut off."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import redoubt

STYLE = Path(redoubt.__file__).parent / "report/templates/style.css"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAPER = 1032  # CSS pixels between the margins of A4 in landscape
MEASURE = "document.title = [...document.querySelectorAll('table')].map(table => table.scrollWidth).join(' ')"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome to lay the page out")
def test_wide_tables_fit_on_paper(tmp_path):
    style = STYLE.read_text(encoding="utf-8")
    assert style.count("@media print") == 1
    cells = [f"cifar10-resnet32-{number}-0.07692307692307693" for number in range(14)]
    row = "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    tables = "".join(
        f'<div class="scroll"><table class="{name}"><thead>{row}</thead><tbody>{row}</tbody></table></div>'
        for name in ("data", "wide", "scorecard")
    )
    page = tmp_path / "page.html"
    printed = style.replace("@media print", "@media all")
    page.write_text(f"<!doctype html><style>{printed}</style><main>{tables}</main><script>{MEASURE}</script>", "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={PAPER},700", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=60)
    widths = re.search(r"<title>([\d ]+)</title>", done.stdout)[1].split()
    assert len(widths) == 3 and all(int(width) <= PAPER for width in widths), widths
