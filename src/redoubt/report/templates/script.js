// Parts of the page, sorting, filtering, copying. Without it the page is whole: what needs it is hidden until the class
// is set. What is shown is in the address: #part?study=…&verdict=…&text=…&sort=…&cell=…
document.documentElement.classList.add("scripted");

// -- the address ------------------------------------------------------------------------------------------------------

function address() {
  const [id, query] = location.hash.slice(1).split("?");
  return { id: decodeURIComponent(id), query: new URLSearchParams(query) };
}

// Changes what the address says; a new entry of the history only where going back should undo it.
function say(id, query, remember) {
  const words = query.toString();
  const hash = `#${id}${words ? `?${words}` : ""}`;
  if (hash !== location.hash) history[remember ? "pushState" : "replaceState"](null, "", hash);
}

const part = (element) => element?.closest(".view");

function show(element) {
  const shown = part(element) ?? document.querySelector(".view");
  for (const view of all(".view")) view.classList.toggle("current", view === shown);
  for (const link of all(".tabs a")) {
    const here = part(document.getElementById(link.hash.slice(1))) === shown;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function follow() {
  const { id, query } = address();
  const target = document.getElementById(id);
  show(target);
  for (const form of all("[data-filters]", document.querySelector(".view.current"))) tables.get(form)(query);
  if (target && target.tagName !== "H2") target.scrollIntoView();
  else if (target) scrollTo(0, Math.min(scrollY, document.querySelector(".tabs").offsetTop));
  open(target?.matches("tr[id]") ? id : query.get("cell"));
}

// -- tables -----------------------------------------------------------------------------------------------------------

// Numbers by value, words by the alphabet; empty values come last in both directions.
function compare(first, second, numeric, sign) {
  if (!first || !second) return (first ? 0 : 1) - (second ? 0 : 1);
  return sign * (numeric ? Number(first) - Number(second) : first.localeCompare(second, "en", { numeric: true }));
}

function sort(table, heading, rising) {
  const value = (row) => row.cells[heading.cellIndex].dataset.sort;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(value(a), value(b), "numeric" in heading.dataset, rising ? 1 : -1));
  all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  table.tBodies[0].append(...rows);
}

// A table with its form: what is chosen goes into the address. Returns what takes it from there.
function filtered(form) {
  const table = document.getElementById(form.dataset.filters);
  const nothing = table.parentElement.querySelector(".nothing");
  const headings = Object.fromEntries(all("th", table.tHead).map((th) => [th.dataset.column, th]));
  const fields = all("[data-filter]", form);
  const home = part(form).getAttribute("aria-labelledby");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));

  const matches = ({ row, text }, field) => {
    const wanted = field.value.trim();
    if (!wanted) return true;
    const heading = headings[field.dataset.filter];
    if (heading) return row.cells[heading.cellIndex].dataset.sort === wanted;
    return wanted.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  };
  const filter = () => {
    let visible = 0;
    for (const entry of rows) {
      const keep = fields.every((field) => matches(entry, field));
      entry.row.hidden = !keep;
      visible += keep;
    }
    form.querySelector("output").textContent = `${visible} of ${rows.length} ${table.dataset.things}`;
    nothing.hidden = visible > 0;
  };
  const told = () => {
    const query = new URLSearchParams();
    for (const field of fields) if (field.value.trim()) query.set(field.dataset.filter, field.value.trim());
    if (address().query.get("cell")) query.set("cell", address().query.get("cell"));
    const sorted = all("th[aria-sort]", table.tHead)[0];
    if (sorted) query.set("sort", (sorted.ariaSort === "descending" ? "-" : "") + sorted.dataset.column);
    say(home, query);
  };
  form.addEventListener("input", () => { filter(); told(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { filter(); told(); }));
  for (const heading of Object.values(headings)) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => { sort(table, heading, heading.ariaSort !== "ascending"); told(); });
    heading.append(button);
  }
  return (query) => {
    for (const field of fields) field.value = query.get(field.dataset.filter) ?? "";
    const column = query.get("sort") ?? "";
    const heading = headings[column.replace(/^-/, "")];
    if (heading) sort(table, heading, !column.startsWith("-"));
    filter();
  };
}

const tables = new Map(all("[data-filters]").map((form) => [form, filtered(form)]));

// A count of a verdict shows what it counts.
for (const link of all("[data-show]")) {
  const [column, value] = link.dataset.show.split("=");
  link.href += `?${new URLSearchParams({ [column]: value })}`;
}

// A number opens what it is made of; the address keeps what else it says, and going back closes it again.
addEventListener("click", (event) => {
  const link = event.target.closest("a[data-cell]");
  if (!link) return;
  event.preventDefault();
  const { id, query } = address();
  const home = document.getElementById(id)?.matches("tr[id]") ? "scorecard" : id;
  query.set("cell", link.hash.slice(1));
  say(home || part(link).getAttribute("aria-labelledby"), query, true);
  open(link.hash.slice(1));
});
box.addEventListener("close", () => {
  const { id, query } = address();
  query.delete("cell");
  say(document.getElementById(id)?.matches("tr[id]") ? "scorecard" : id, query);
});

// -- commands, pictures, paper ----------------------------------------------------------------------------------------

// Where the clipboard is refused, the command is selected, so that the keyboard copies it.
function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  return document.execCommand("copy");
}

addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  let copied = true;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    copied = select(button.previousElementSibling);
  }
  button.textContent = copied ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

for (const link of all("a[data-figure]")) link.href = link.closest("article").querySelector("figure img").src;

// The numbers of a table or figure are read from its download when they are asked for.
for (const details of all("details.numbers")) {
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const [names, ...rows] = parsed(decoded(details.closest("article").querySelector("a[download$='.csv']").href));
    details.append(numbers(names, rows, details.closest("article").querySelector("h3").textContent));
  }, { once: false });
}

const decoded = (uri) => new TextDecoder().decode(Uint8Array.from(atob(uri.split(",")[1]), (c) => c.charCodeAt(0)));

// Rows of a CSV file; a value in quotes may hold commas, quotes and ends of lines.
function parsed(csv) {
  const rows = [[]];
  for (const [, quoted, plain, end] of csv.matchAll(/(?:"((?:[^"]|"")*)"|([^,\n]*))(,|\n|$)/g)) {
    rows.at(-1).push(quoted?.replaceAll('""', '"') ?? plain);
    if (end === "\n") rows.push([]);
    if (end === "") break;
  }
  return rows.filter((row) => row.length > 1 || row[0]);
}

function numbers(names, rows, title) {
  const region = document.createElement("div");
  Object.assign(region, { className: "scroll tall", role: "region", ariaLabel: `Numbers of ${title}`, tabIndex: 0 });
  const table = region.appendChild(document.createElement("table"));
  table.className = "data";
  const head = table.createTHead().insertRow();
  for (const name of names) {
    const heading = head.appendChild(document.createElement("th"));
    Object.assign(heading, { scope: "col", textContent: name });
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const value of row) line.insertCell().textContent = value;
  }
  return region;
}

// On paper the evidence and the commands are open; afterwards the page is as it was.
let opened = [];
addEventListener("beforeprint", () => {
  opened = all("details.evidence, details.rebuild").filter((details) => !details.open);
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));

addEventListener("hashchange", follow);
follow();
