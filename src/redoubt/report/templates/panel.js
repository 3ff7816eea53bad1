"use strict";
// What a number is made of: a dialog filled from the data at the end of the page, which are JSON as gzip in base64.
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const box = document.getElementById("panel");
let made, loaded, wanted;

function held(script) {
  const bytes = Uint8Array.from(atob(script.textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

// An element with attributes and children; text is never read as HTML.
function element(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return found;
}

async function open(id) {
  wanted = id;
  all("tr.open").forEach((row) => row.classList.remove("open"));
  if (id) {
    loaded ??= Promise.all(["panels", "seconds"].map((name) => held(document.getElementById(name))));
    const [panels, seconds] = await loaded;
    made = { ...panels, seconds };
    if (wanted !== id) return; // another was asked for meanwhile
  }
  const cell = id && made.cells[id];
  if (!cell) return box.open && box.close();
  document.getElementById(id)?.classList.add("open");
  box.replaceChildren(...filled(cell, id));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
}

function filled({ name: [study, artifact, row, column, metric, verdict], facts, values, origin }, id) {
  const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
  close.addEventListener("click", () => box.close());
  return [
    close,
    element("h2", { id: "panel-title" }, `${row} · ${column}`),
    element("p", { class: "soft" }, `${study}, ${artifact}: ${metric}; ${verdict}`),
    listed(facts),
    element("p", { class: "downloads" }, download(`${id}.csv`, [made.columns, values], "This cell as CSV"),
      element("a", { href: `#${study}-${artifact}` }, "Its table")),
    ...(origin?.curves ?? []).map(({ figure, title, at }) => element("p", { class: "curve" }, "A point of ",
      element("a", { href: `#${figure}` }, title), `: ${at}`)),
    element("h3", {}, "Rebuild it"),
    rebuilt(study, artifact, origin),
    ...(origin ? [modelled(origin), ...attacked(id, origin.model, origin.attack, origin.where, "Attack"),
      ...attacked(id, origin.model, origin.strong, origin.strong_where, "Strong attacks")] : []),
  ];
}

const listed = (facts) => element("dl", {}, facts.map(([label, text]) =>
  element("div", { class: text.length > 44 ? "long" : "" }, element("dt", {}, label), element("dd", {}, text))));

const quoted = (value) => /[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;

function download(name, rows, label) {
  const csv = rows.map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  const file = new Blob([csv], { type: "text/csv;charset=utf-8" });
  return element("a", { download: name, href: URL.createObjectURL(file) }, label);
}

// The rows of an attack on a model that a number is made of, as CSV; where they are not here, why, and where they lie.
function rowsOf(name, key, where) {
  const place = element("p", { class: "downloads" });
  const script = all("script[data-rows]").find((each) => each.dataset.rows === key);
  const files = made.runs[key].files.flatMap((file) => [" ", element("a", { href: `../${file.split("/").slice(2).join("/")}` }, file)]);
  if (!script && made.left_out.includes(key)) place.append("Its rows are too many for this page, and lie beside it:", ...files);
  else if (!script) place.append("Its rows were not there when this page was written.");
  else held(script).then((columns) => place.append(picked(name, columns, where)));
  return place;
}

function picked(name, columns, where) {
  const alike = (value, other) => value === other || (typeof other === "number" && value === Number(other.toPrecision(made.digits)));
  const asked = columns.filter(([column]) => column in where);
  const kept = columns[0][1].map((_, row) => row).filter((row) => asked.every(([column, values]) => alike(values[row], where[column])));
  const rows = kept.map((row) => columns.map(([, values]) => spelt(values[row])));
  return download(name, [columns.map(([column]) => column), ...rows], `Its rows as CSV (${rows.length})`);
}

// A value as pandas writes it.
const spelt = (value) => typeof value === "boolean" ? { true: "True", false: "False" }[value] : String(value ?? "");

function command(text) {
  const copy = element("button", { type: "button", "data-copy": text, "aria-label": `Copy: ${text}` }, "Copy");
  return element("div", { class: "command" }, element("code", {}, text), copy);
}

function rebuilt(study, artifact, origin) {
  const scale = document.body.className.replace("scale-", "");
  const own = made.runs[`${origin?.model}/${origin?.attack}`] ?? made.runs[origin?.model];
  const table = `snakemake results/${scale}/${study}/${artifact}.csv --config scale=${scale}`;
  const again = own && `snakemake ${own.files.join(" ")} --force --config scale=${scale}`;
  return element("div", {}, command(table), again && element("p", { class: "soft" }, "What it was measured by, again:"),
    again && command(again));
}

function taken(run) {
  const known = run?.jobs.map((job) => made.seconds[job]).filter((value) => value !== undefined) ?? [];
  const total = known.reduce((sum, value) => sum + value, 0);
  return known.length ? `${total.toFixed(1)} s${known.length > 1 ? ` in ${known.length} jobs` : ""}` : "";
}

const filledIn = (pairs) => listed(pairs.filter(([, text]) => text));

function modelled({ model }) {
  const { entry, file, seeds, changed, trained } = made.models[model];
  const data = Object.entries(trained[0]?.data?.sha256 ?? {}).map(([part, digest]) => `${part} ${digest.slice(0, 16)}`);
  const versions = Object.entries(trained[0]?.versions ?? {}).map(([name, version]) => `${name} ${version}`);
  return element("section", {}, element("h3", {}, `Model ${model}`), filledIn([
    ["seeds", seeds.join(", ")],
    ["training took", taken(made.runs[model])],
    ["data", trained.length ? `${trained[0].data?.name}, SHA-256 ${data.join(", ")}` : entry.dataset],
    ["weights, SHA-256", trained.map((run) => run.sha256?.slice(0, 16)).join(", ")],
    ["code", made.runs[model]?.code],
    ["ran on", trained.length ? [trained[0].device, ...versions].join(", ") : ""],
    ["files", made.runs[model]?.files.join(" ")],
  ]), ...written(entry, file, changed));
}

function attacked(id, model, attack, where, title) {
  if (!attack) return [];
  const { entry, file, changed } = made.attacks[attack];
  const run = made.runs[`${model}/${attack}`];
  const rows = run?.files ?? [];
  const to = `python -c "import pandas; pandas.read_parquet('${rows[0]}').to_csv('rows.csv')"`;
  return [element("section", {}, element("h3", {}, `${title} ${attack}`), filledIn([
    ["at", Object.entries(where).map(([name, value]) => `${name} = ${value}`).join(", ")],
    ["took", taken(run)],
    ["code", run?.code],
    ["rows", rows.join(" ")],
  ]), ...(rows.length ? [rowsOf(`${id}.${attack}.csv`, `${model}/${attack}`, where), command(to)] : []),
    ...written(entry, file, changed))];
}

// An entry as it is at this scale, and what the scale changes of it.
const written = (entry, file, changed) => [
  ...changed.map((change) => element("p", { class: "changed" }, `${change.why} `,
    element("code", {}, `${change.file}: ${JSON.stringify(change.set)}`))),
  element("details", {}, element("summary", {}, `Its entry (${file})`),
    element("pre", { tabindex: "0" }, JSON.stringify(entry, null, 1))),
];
