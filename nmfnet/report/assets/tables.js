// Leaderboard, paired comparison, failures and warnings, one run.
const ROWS = 200;
let everyRow = false;

const given = (value) => (typeof value === "boolean" ? String(value) : value === null ? "null" : fmt(value, 6));
const dot = (i) => el("span", { className: "dot", style: `--c: ${look(i).color}` });
const note = (text) => el("p", { className: "sub" }, text);
const count = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;
function choose(select, options, value) {
  const same = (v) => String(v) === String(value);
  select.replaceChildren(...options.map(([v, text]) => el("option", { value: v, selected: same(v) }, text)));
}
function picture(run, name) {
  if (run.figures[name] === undefined) return null;
  return el("img", { src: D.images[run.figures[name]], alt: `${name} of ${run.id}` });
}

// ---------------------------------------------------------------- leaderboard
function drawTable() {
  const { before, after, picked, present } = columns();
  const best = new Set(bestOf(shown, (run) => `${run.group}|${setting(run, "model")}`));
  const values = shown.map((run) => run.metrics[main(run)]).filter(Number.isFinite);
  const top = Math.max(...values, 0), low = Math.min(...values, 0);
  const written = Object.fromEntries(picked.map((key) => [key, aligned(shown.map((run) => run.metrics[key]))]));
  const told = (run, key) => el("td", { className: "text" }, key === "model" ? dot(index(run)) : null, given(setting(run, key)));
  const number = (run, key) => {
    const share = (100 * (run.metrics[key] - low)) / (top - low);
    const bar = key === main(run) && Number.isFinite(share) ? { className: "meter", style: `--p: ${share}%` } : {};
    return el("td", bar, written[key](run.metrics[key]));
  };
  order = sorted(shown);
  const rows = (everyRow ? order : order.slice(0, ROWS)).map((run) =>
    el("tr", { className: best.has(run) ? "best" : "", onclick: () => set("run", run.id) },
      nameCell(run, best.has(run)), before.map((key) => told(run, key)),
      picked.map((key) => number(run, key)), after.map((key) => told(run, key))));
  const heads = [...before, ...picked, ...after].map(headCell);
  $("table").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col", className: "text" }, "run"), heads)), el("tbody", {}, rows));
  const parts = [...new Set([rows.length, shown.length, members().length])];
  const said = parts.length > 1 ? `${parts.slice(0, -1).join(" of ")} of ${count(parts.at(-1), "run")}` : count(parts[0], "run");
  $("shown").textContent = `${said}. ★ best of its model among ` +
    "these rows. ⚠ has warnings. Choose a run for its settings, numbers, command and figures.";
  $("more").hidden = rows.length === shown.length;
  $("more").textContent = `Show all ${shown.length} rows`;
  $("columns").replaceChildren(...present.map((key) => columnBox(key, picked, present)));
}
function nameCell(run, best) {
  const open = (event) => { event.stopPropagation(); set("run", run.id); };
  const spoken = `Open run ${run.id}${best ? ", best of its model" : ""}`;
  return el("td", { className: "text" }, el("span", { className: "star" }, best ? "★" : ""),
    el("button", { className: "link", type: "button", id: `run:${run.id}`, title: run.id, "aria-label": spoken, onclick: open },
      run.id.split("/").pop()),
    run.warnings.length ? el("span", { title: run.warnings.join("\n"), className: "star" }, "⚠") : null);
}
function headCell(key) {
  const { key: by, reversed } = sortKey(), on = key === by;
  const up = (key in MEASURE && MEASURE[key].better > 0) === reversed;
  const press = () => set("sort", on && !reversed ? `${key}~1` : key);
  const sorting = on ? { "aria-sort": up ? "ascending" : "descending" } : {};
  return el("th", { scope: "col", className: key in MEASURE ? "" : "text", ...sorting },
    el("button", { id: `sort:${key}`, type: "button", onclick: press }, words(key) + (on ? (up ? "\u00a0▲" : "\u00a0▼") : "")));
}
function columnBox(key, picked, present) {
  const change = (event) => {
    const wanted = event.target.checked ? [...picked, key] : picked.filter((other) => other !== key);
    set("cols", wanted.join(",") || "none");
  };
  const box = el("input", { type: "checkbox", id: `col:${key}`, checked: picked.includes(key), onchange: change });
  return el("label", {}, box, ` ${words(key)}`);
}
function drawFilters() {
  const mine = members();
  const keys = D.settings.filter((key) => distinct(mine, key) > 1 && distinct(mine, key) <= 40).slice(0, 8);
  $("filters").replaceChildren(...keys.map((key) => {
    const select = el("select", { id: `f:${key}`, onchange: (event) => set(`f.${key}`, event.target.value) });
    const values = unique(mine.map((run) => setting(run, key)));
    choose(select, [["", "all"], ...values.map((v) => [v, given(v)])], get(`f.${key}`));
    return el("label", {}, words(key), select);
  }));
}

// ---------------------------------------------------------------- paired comparison
function drawComparison() {
  const here = group(), table = here ? here.compared : [], box = $("compared");
  if (!table.length) {
    const why = !here ? "Choose one group of runs above: runs that were not on equal terms are not compared."
      : "Nothing to pair: train another model on the same data with the same seeds and numbers of components, " +
        "such as nmfnet-train -m model=nmf,convex_nmf seed=0,1,2.";
    for (const id of ["c-key", "c-ref", "c-size"]) choose($(id), [["", "–"]], "");
    return box.replaceChildren(note(why), refused());
  }
  const sizes = [...new Set(table.map((row) => row[0]))];
  const k = sizes.find((v) => v !== null && String(v) === get("csize")) ?? null;
  const mine = table.filter((row) => row[0] === k), keys = [...new Set(mine.map((row) => row[1]))];
  const key = keys.includes(get("ckey")) ? get("ckey") : keys[0];
  const names = here.methods.filter((name) => mine.some((row) => row[2] === name || row[3] === name));
  const ref = names.includes(get("cref")) ? get("cref") : names[0];
  choose($("c-key"), keys.map((v) => [v, words(v)]), key);
  choose($("c-ref"), names.map((v) => [v, v]), ref);
  choose($("c-size"), sizes.map((v) => [v ?? "", v ?? "all"]), k ?? "");
  const rows = mine.filter((row) => row[1] === key && (row[2] === ref || row[3] === ref)).map((row) => against(row, ref));
  rows.sort((a, b) => -MEASURE[key].better * (a.mean - b.mean));
  const base = mean(numbers(members().filter((run) => run.method === ref && (k === null || size(run) === k)), key));
  const draw = forest(rows), plus = (v) => (v > 0 ? "+" : "");
  const head = ["", "verdict", "difference", "95 % interval", "", "relative", "pairs (seeds)", "not converged"];
  const body = rows.map((r) => el("tr", {},
    el("td", { className: "text" }, dot(here.drawn.indexOf(r.name)), r.name),
    el("td", { className: "text" }, el("span", { className: `chip ${r.verdict}` }, r.verdict)),
    el("td", {}, plus(r.mean) + fmt(r.mean)),
    el("td", {}, r.low === null ? "–" : `${fmt(r.low)} to ${fmt(r.high)}`),
    el("td", {}, draw(r)),
    el("td", {}, base ? `${plus(r.mean)}${((100 * r.mean) / Math.abs(base)).toFixed(1)} %` : "–"),
    el("td", {}, `${r.pairs} (${r.seeds})`),
    el("td", {}, r.late ? el("span", { className: "chip warn" }, `${r.late} of ${r.pairs}`) : "none")));
  const heads = head.map((text, i) => el("th", { scope: "col", className: i < 2 ? "text" : "" }, text));
  const what = words(key)[0].toUpperCase() + words(key).slice(1);
  box.replaceChildren(
    el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Paired comparison" },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body))),
    note(`${what} of each method minus ${ref}, in pairs of runs with the same data, held-out rows, number of components ` +
      "and seed. “Noise”: the interval covers zero, or the difference is below 0.01 %, less than a stopping rule resolves. " +
      "The interval is Student's t on a delete-one-seed jackknife: pairs that share a seed share held-out rows, so seeds, " +
      "not pairs, are the repetitions. Not corrected for the number of comparisons." +
      (here.drawn.length < here.methods.length ? ` Of ${here.methods.length} variants the best of each model is compared.` : "")),
    refused());
}
// A row of the payload as "the other method minus the reference".
function against([, , method, other, pairs, seeds, late, m, low, high, , verdict], ref) {
  const same = { pairs, seeds, late };
  if (other === ref) return { ...same, name: method, mean: m, low, high, verdict };
  const flip = { better: "worse", worse: "better", higher: "lower", lower: "higher" };
  const minus = (v) => (v === null ? null : -v);
  return { ...same, name: other, mean: -m, low: minus(high), high: minus(low), verdict: flip[verdict] || verdict };
}
// Intervals on one axis; returns the drawing function of a row.
function forest(rows) {
  const ends = rows.flatMap((r) => [r.mean, r.low, r.high, 0]).filter((v) => v !== null);
  const low = Math.min(...ends), span = Math.max(...ends) - low || 1, at = (v) => 6 + ((v - low) / span) * 188;
  return (r) => {
    const color = { better: "var(--good)", worse: "var(--bad)" }[r.verdict] || "var(--soft)";
    const node = svg("svg", { width: 200, height: 20, "aria-hidden": "true" });
    const thick = { stroke: color, "stroke-width": 2.5, "stroke-linecap": "round" };
    node.append(svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 20 }));
    if (r.low !== null) node.append(svg("line", { x1: at(r.low), x2: at(r.high), y1: 10, y2: 10, ...thick }));
    node.append(svg("circle", { cx: at(r.mean), cy: 10, r: 4.5, fill: color }));
    return node;
  };
}
function refused() {
  if (!D.refused.length) return "";
  const head = `Not compared, because not on equal terms: ${count(D.refused.length, "pair")} of groups on the same data`;
  return el("details", {}, el("summary", {}, head), el("ul", {}, D.refused.map((text) => el("li", {}, text))));
}

// ---------------------------------------------------------------- failures and warnings
function drawTrouble() {
  const lost = D.lost.slice(0, 100).map((job) => el("div", { className: "lost" },
    el("p", {}, el("span", { className: `chip ${job.status}` }, job.status), " ", el("b", {}, job.id)),
    job.problem ? el("p", {}, job.problem) : null,
    job.command ? el("pre", {}, job.command) : null,
    job.traceback ? el("details", {}, el("summary", {}, "Traceback"), el("pre", {}, job.traceback)) : null));
  const rest = D.lost.length - lost.length;
  $("lost").replaceChildren(
    el("p", {}, lost.length ? `Without results, in all groups: ${count(D.lost.length, "run")}.` : "No failed, interrupted or unreadable runs."),
    ...lost, rest > 0 ? note(`and ${rest} more`) : "");
  const kinds = new Map(), mine = members();
  for (const run of mine) {
    for (const text of run.warnings) {
      const kind = text.split(/[: ]/).slice(0, text.startsWith("not") ? 2 : 1).join(" ");
      kinds.set(kind, [...(kinds.get(kind) || []), run]);
    }
  }
  const show = (kind) => () => { $("q").value = kind; set("q", kind); $("leaderboard").scrollIntoView(); };
  const items = [...kinds].map(([kind, runs]) => el("li", {},
    `${kind}: ${runs.length} of ${count(mine.length, "run")} (${unique(runs.map((run) => run.method)).slice(0, 6).join(", ")}) `,
    el("button", { type: "button", onclick: show(kind) }, "show them")));
  const notes = D.notes.map((text) => el("li", {}, text));
  $("warnings").replaceChildren(
    el("h3", {}, "Warnings"), items.length ? el("ul", {}, items) : el("p", {}, "None for these runs."),
    ...(notes.length ? [el("h3", {}, "Notes on the data"), el("ul", {}, notes)] : []));
}

// ---------------------------------------------------------------- one run
function drawRun() {
  const run = D.runs.find((r) => r.id === get("run")), box = $("run");
  if (!run) { if (box.open) box.close(); return; }
  const place = order.indexOf(run), step = (by) => () => { if (order[place + by]) set("run", order[place + by].id); };
  $("run-h").textContent = `${run.method} · ${run.id}`;
  $("prev").onclick = step(-1);
  $("next").onclick = step(1);
  $("prev").disabled = place < 1;
  $("next").disabled = place < 0 || place + 1 >= order.length;
  const copy = el("button", { type: "button" }, "Copy");
  copy.onclick = () => navigator.clipboard?.writeText(run.command).then(() => { copy.textContent = "Copied"; });
  const fold = (head, table) => el("details", {}, el("summary", {}, head), table);
  const figures = Object.keys(run.figures).map((name) =>
    el("figure", {}, el("figcaption", {}, name.replaceAll("_", " ")), picture(run, name)));
  $("run-body").replaceChildren(
    note(`${D.groups[run.group].name}${run.solver && ` · solver ${run.solver}`} · finished ${run.finished || "?"} · folder ${run.folder}`),
    el("p", {}, run.warnings.map((text) => el("span", { className: "chip warn" }, text))),
    run.command ? el("div", {}, el("h3", {}, "The command that repeats it ", copy), el("pre", {}, run.command)) : "",
    el("div", { className: "two" }, el("div", {}, el("h3", {}, "Numbers"), numberTable(run)),
      el("div", {}, el("h3", {}, "Settings"), plainTable(Object.entries(run.settings)),
        fold("Settings that all runs share", plainTable(Object.entries(D.common))),
        fold("Provenance", plainTable(flat(D.origins[run.origin]))), figures.slice(0, 1))),
    el("div", { className: "two" }, figures.slice(1)),
    figures.length ? "" : note(`No pictures of this run in the page; they are in ${run.folder}/figures.`));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
}
function numberTable(run) {
  const keys = D.measures.map((m) => m[0]).filter((key) => key in run.metrics);
  const both = keys.some((key) => key.startsWith("test/")), cell = (key) => el("td", { className: "number" }, key in run.metrics ? fmt(run.metrics[key], 6) : "");
  const rows = keys.filter((key) => !both || !key.startsWith("test/")).map((key) => {
    const split = both && key.startsWith("train/");
    const name = el("th", { scope: "row", className: "text", title: key }, split ? words(key).replace("training ", "") : words(key));
    return el("tr", {}, name, cell(key), both ? cell(split ? key.replace("train/", "test/") : "") : null);
  });
  const head = ["", "training", "held-out"].map((text) => el("th", { scope: "col" }, text));
  return scrolled(both ? el("thead", {}, el("tr", {}, head)) : null, rows);
}
function plainTable(rows) {
  return scrolled(null, rows.map(([key, value]) => el("tr", {},
    el("th", { scope: "row", className: "text" }, key), el("td", {}, typeof value === "string" ? value : given(value)))));
}
const scrolled = (head, rows) => el("div", { className: "scroll" }, el("table", {}, head, el("tbody", {}, rows)));
function flat(node, path = "") {
  return Object.entries(node).flatMap(([key, value]) => {
    if (value && typeof value === "object" && !Array.isArray(value)) return flat(value, `${path}${key} `);
    return [[path + key, Array.isArray(value) ? value.join("; ") : value]];
  });
}
