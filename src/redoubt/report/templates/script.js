"use strict";
// Sorting, filtering, copying. Without it the page is whole: what needs it is hidden until the class is set.
(() => {
  document.documentElement.classList.add("scripted");
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Numbers by value, words by the alphabet; empty values come last in both directions.
  function compare(first, second, numeric, sign) {
    if (!first || !second) return (first ? 0 : 1) - (second ? 0 : 1);
    return sign * (numeric ? Number(first) - Number(second) : first.localeCompare(second, "en", { numeric: true }));
  }

  function sort(table, heading) {
    const index = heading.cellIndex;
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    const value = (row) => row.cells[index].dataset.sort;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(value(a), value(b), "numeric" in heading.dataset, rising ? 1 : -1));
    all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }

  for (const table of all("table[data-sortable]")) {
    for (const heading of all("th", table.tHead)) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(table, heading));
      heading.append(button);
    }
  }

  for (const form of all("[data-filters]")) {
    const table = document.getElementById(form.dataset.filters);
    const nothing = table.parentElement.querySelector(".nothing");
    const columns = Object.fromEntries(all("th", table.tHead).map((th) => [th.dataset.column, th.cellIndex]));
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));
    const matches = ({ row, text }, field) => {
      const wanted = field.value.trim();
      if (!wanted) return true;
      if (field.dataset.filter !== "*") return row.cells[columns[field.dataset.filter]].dataset.sort === wanted;
      return wanted.toLowerCase().split(/\s+/).every((word) => text.includes(word));
    };
    const filter = () => {
      const fields = all("[data-filter]", form);
      let visible = 0;
      for (const entry of rows) {
        const keep = fields.every((field) => matches(entry, field));
        entry.row.hidden = !keep;
        visible += keep;
      }
      form.querySelector("output").textContent = `${visible} of ${rows.length} cells`;
      nothing.hidden = visible > 0;
    };
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter));
    for (const link of all("[data-show]")) {
      link.addEventListener("click", () => {
        form.reset();
        form.querySelector("[data-filter=verdict]").value = link.dataset.show;
        setTimeout(filter);
      });
    }
    filter();
  }

  // Where the clipboard is refused, the command is selected, so that the keyboard copies it.
  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }

  for (const button of all("[data-copy]")) {
    button.addEventListener("click", async () => {
      let copied = true;
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
      } catch {
        copied = select(button.previousElementSibling);
      }
      button.textContent = copied ? "Copied" : "Selected";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  for (const link of all("a[data-figure]")) link.href = link.closest("article").querySelector("figure img").src;

  // On paper the evidence and the commands are open; afterwards the page is as it was.
  const folded = () => all("details.evidence, details.rebuild");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = folded().filter((part) => !part.open);
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
})();
