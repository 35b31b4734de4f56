"use strict";
// State lives in the address (#g=0&q=...): it can be shared, and survives the dashboard's reload.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
const get = (key, other = "") => state.get(key) ?? other;
const MEASURE = Object.fromEntries(D.measures.map(([key, words, better]) => [key, { words, better }]));
const words = (key) => (MEASURE[key] ? MEASURE[key].words : key.replace(/^model\./, ""));
const ROWS = 200, LINES = 60, PICTURES = 48;
let all = false, shown = [], order = [];

function keep() { try { history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search); } catch { /* some browsers refuse this for files */ } }
function set(key, value) { if (value === "" || value === null) state.delete(key); else state.set(key, value); keep(); draw(); }
const setting = (run, key) => (key in run.settings ? run.settings[key] : D.common[key]);
const size = (run) => setting(run, "model.n_components");
const group = () => (get("g", "0") === "all" ? null : D.groups[get("g", "0")] || null);
const members = () => D.runs.filter((run) => get("g", "0") === "all" || run.group === Number(get("g", "0")));
const given = (value) => (typeof value === "boolean" ? String(value) : value === null ? "null" : fmt(value, 6));
const unique = (values) => [...new Set(values)].sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true })));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const main = (run) => D.groups[run.group].main;
const good = (run, key) => { const v = run.metrics[key]; return v === undefined || v === null ? Infinity : -MEASURE[key].better * v; };
const hidden = () => get("off").split("|").filter(Boolean);
const index = (run) => D.groups[run.group].methods.indexOf(run.method);
function choose(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => el("option", { value, selected: String(value) === String(chosen) }, text)));
}
const picture = (run, name) => (run.figures[name] === undefined ? null : el("img", { src: D.images[run.figures[name]], alt: `${name} of ${run.id}`, loading: "lazy" }));

// ---------------------------------------------------------------- which rows
function columns() {
  const mine = members(), varied = D.settings.filter((key) => key === "model" || new Set(mine.map((run) => setting(run, key))).size > 1);
  const present = D.measures.map((m) => m[0]).filter((key) => mine.some((run) => run.metrics[key] !== undefined));
  const first = mine.length ? main(mine[0]) : "", other = first.replace(/^(test|train)/, (part) => (part === "test" ? "train" : "test"));
  const usual = [first, other, "truth/matched_cosine", "reference/assigned_cosine", "labels/ari", "stability/matched_cosine", "n_iter", "seconds", "converged"];
  const picked = state.has("cols") ? get("cols").split(",") : usual;
  return { varied, present, numbers: present.filter((key) => picked.includes(key)).sort((a, b) => picked.indexOf(a) - picked.indexOf(b)) };
}
function matches(run) {
  for (const key of D.settings) if (state.has(`f.${key}`) && String(setting(run, key)) !== get(`f.${key}`)) return false;
  const text = [run.id, run.method, ...Object.values(run.settings), ...run.warnings, ...(run.warnings.length ? ["warning"] : [])].join(" ").toLowerCase();
  return get("q").toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const [, key, sign, value] = word.match(/^([\w./]+)([=<>])(.+)$/) || [];
    if (!key) return text.includes(word);
    const found = Object.keys({ ...D.common, ...run.settings, ...run.metrics }).filter((name) => name === key || name.endsWith(`.${key}`) || name.endsWith(`/${key}`));
    return found.some((name) => {
      const own = name in run.metrics ? run.metrics[name] : setting(run, name);
      return sign === "=" ? String(own).toLowerCase() === value : sign === "<" ? own < Number(value) : own > Number(value);
    });
  });
}
function sorted(rows) {
  const [key, down] = get("sort", rows.length ? main(rows[0]) : "").split("~");
  const value = (run) => (key in MEASURE ? run.metrics[key] : setting(run, key));
  const sign = key in MEASURE && MEASURE[key].better > 0 ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)], none = (v) => v === undefined || v === null;
    if (none(x) || none(y)) return none(x) - none(y);
    const step = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
    return step * sign * (down ? -1 : 1);
  });
}
function bests(rows) {
  const best = new Map();
  for (const run of rows) { const place = `${run.group}|${run.settings.model ?? D.common.model}`, held = best.get(place); if (!held || good(run, main(run)) < good(held, main(held))) best.set(place, run); }
  return new Set(best.values());
}

// ---------------------------------------------------------------- leaderboard
function drawTable() {
  const { varied, present, numbers } = columns(), best = bests(shown), [key, down] = get("sort", shown.length ? main(shown[0]) : "").split("~");
  const first = varied.filter((name) => /^(data|loss|split|model|model\.n_components)$/.test(name)), rest = varied.filter((name) => !first.includes(name));
  const cell = (run, name) => el("td", { className: "text" }, name === "model" ? el("span", { className: "dot", style: `--c: ${look(index(run)).color}` }) : null, given(setting(run, name)));
  order = sorted(shown);
  const head = (name, text) => {
    const on = key === name, up = ((MEASURE[name] || {}).better > 0) === Boolean(down);
    const attributes = on ? { "aria-sort": up ? "ascending" : "descending", scope: "col" } : { scope: "col" };
    return el("th", { ...attributes, className: name in MEASURE ? "" : "text" }, el("button", { id: `sort:${name}`, type: "button", onclick: () => set("sort", on && !down ? `${name}~` + "1" : name) }, text + (on ? (up ? " ▲" : " ▼") : "")));
  };
  const written = Object.fromEntries(numbers.map((name) => [name, aligned(shown.map((run) => run.metrics[name]))]));
  const values = shown.map((run) => run.metrics[main(run)]).filter(Number.isFinite), top = Math.max(...values, 0), low = Math.min(...values, 0);
  const rows = (all ? order : order.slice(0, ROWS)).map((run) => el("tr", { className: best.has(run) ? "best" : "", onclick: () => set("run", run.id) },
    el("td", { className: "text" }, el("span", { className: "star", title: best.has(run) ? "best of its model among these rows" : "" }, best.has(run) ? "★" : ""),
      el("button", { className: "link", type: "button", id: `run:${run.id}`, title: run.id, "aria-label": `Open run ${run.id}${best.has(run) ? ", best of its model" : ""}`, onclick: (event) => { event.stopPropagation(); set("run", run.id); } }, run.id.split("/").pop()),
      run.warnings.length ? el("span", { title: run.warnings.join("\n"), className: "star", "aria-label": `${run.warnings.length} warnings` }, "⚠") : null),
    first.map((name) => cell(run, name)),
    numbers.map((name) => el("td", name === main(run) && top > low ? { className: "meter", style: `--p: ${(100 * (run.metrics[name] - low)) / (top - low)}%` } : {}, written[name](run.metrics[name]))),
    rest.map((name) => cell(run, name))));
  $("table").replaceChildren(el("thead", {}, el("tr", {}, el("th", { scope: "col", className: "text" }, "run"), [...first, ...numbers, ...rest].map((name) => head(name, words(name))))), el("tbody", {}, rows));
  $("shown").textContent = `${rows.length < shown.length ? `First ${rows.length} of ` : ""}${shown.length} of ${members().length} runs. ★ = best of its model among the rows shown. ⚠ = warnings. Choose a run for its settings, numbers, command and figures.`;
  $("more").hidden = rows.length === shown.length;
  $("more").textContent = `Show all ${shown.length} rows`;
  $("columns").replaceChildren(...present.map((name) => el("label", {}, el("input", { type: "checkbox", id: `col:${name}`, checked: numbers.includes(name), onchange: (event) => set("cols", present.filter((other) => (other === name ? event.target.checked : numbers.includes(other))).join(",") || "none") }), ` ${words(name)}`)));
}
function drawFilters() {
  const mine = members(), keys = D.settings.filter((key) => { const n = new Set(mine.map((run) => setting(run, key))).size; return n > 1 && n <= 40; }).slice(0, 8);
  $("filters").replaceChildren(...keys.map((key) => {
    const select = el("select", { id: `f:${key}`, onchange: (event) => set(`f.${key}`, event.target.value) });
    choose(select, [["", "all"], ...unique(mine.map((run) => setting(run, key))).map((v) => [v, given(v)])], get(`f.${key}`));
    return el("label", {}, words(key), select);
  }));
}

// ---------------------------------------------------------------- comparison
function drawComparison() {
  const here = group(), box = $("compared"), table = here ? here.compared : [];
  if (!table.length) {
    const why = here ? "One method only: train another model on the same data, e.g. nmfnet-train -m model=nmf,convex_nmf seed=0,1,2." : "Choose one group of runs above: runs that were not on equal terms are not compared.";
    for (const id of ["c-key", "c-ref", "c-size"]) choose($(id), [["", "–"]], "");
    return box.replaceChildren(el("p", { className: "sub" }, why), refused());
  }
  const sizes = [...new Set(table.map((row) => row[0]))], wanted = get("csize") === "" ? null : Number(get("csize")), n = sizes.includes(wanted) ? wanted : null;
  const mine = table.filter((row) => row[0] === n), keys = [...new Set(mine.map((row) => row[1]))], key = keys.includes(get("ckey")) ? get("ckey") : keys[0];
  const names = here.methods.filter((name) => mine.some((row) => row[2] === name || row[3] === name)), ref = names.includes(get("cref")) ? get("cref") : names[0];
  choose($("c-key"), keys.map((k) => [k, words(k)]), key);
  choose($("c-ref"), names.map((k) => [k, k]), ref);
  choose($("c-size"), sizes.map((k) => [k ?? "", k ?? "all"]), n ?? "");
  const flip = { better: "worse", worse: "better", higher: "lower", lower: "higher" };
  const rows = mine.filter((row) => row[1] === key && (row[2] === ref || row[3] === ref)).map(([, , a, b, pairs, seeds, late, m, low, high, share, verdict]) =>
    b === ref ? { name: a, pairs, seeds, late, m, low, high, share, verdict } : { name: b, pairs, seeds, late, m: -m, low: high === null ? null : -high, high: low === null ? null : -low, share: null, flipped: share, verdict: flip[verdict] || verdict });
  const base = mean(members().filter((run) => run.method === ref && (n === null || size(run) === n)).map((run) => run.metrics[key]).filter(Number.isFinite));
  rows.sort((a, b) => -MEASURE[key].better * (a.m - b.m));
  const ends = rows.flatMap((r) => [r.m, r.low, r.high, 0]).filter((v) => v !== null), low = Math.min(...ends), span = Math.max(...ends) - low || 1, at = (v) => 6 + ((v - low) / span) * 188;
  const forest = (r) => {
    const color = { better: "var(--good)", worse: "var(--bad)" }[r.verdict] || "var(--soft)", node = svg("svg", { width: 200, height: 20, "aria-hidden": "true" });
    node.append(svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 20 }));
    if (r.low !== null) node.append(svg("line", { x1: at(r.low), x2: at(r.high), y1: 10, y2: 10, stroke: color, "stroke-width": 2.5, "stroke-linecap": "round" }));
    node.append(svg("circle", { cx: at(r.m), cy: 10, r: 4.5, fill: color }));
    return node;
  };
  const head = ["", "verdict", "difference", "95 % interval", "", "relative", "pairs (seeds)", "not converged"];
  box.replaceChildren(el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Paired comparison" }, el("table", {}, el("thead", {}, el("tr", {}, head.map((text, i) => el("th", { scope: "col", className: i < 2 ? "text" : "" }, text)))), el("tbody", {}, rows.map((r) => el("tr", {},
    el("td", { className: "text" }, el("span", { className: "dot", style: `--c: ${look(here.methods.indexOf(r.name)).color}` }), r.name), el("td", { className: "text" }, el("span", { className: `chip ${r.verdict}` }, r.verdict)),
    el("td", {}, (r.m > 0 ? "+" : "") + fmt(r.m)), el("td", {}, r.low === null ? "–" : `${fmt(r.low)} to ${fmt(r.high)}`), el("td", {}, forest(r)), el("td", {}, base ? `${r.m > 0 ? "+" : ""}${((100 * r.m) / Math.abs(base)).toFixed(1)} %` : "–"), el("td", {}, `${r.pairs} (${r.seeds})`), el("td", {}, r.late ? el("span", { className: "chip warn" }, `${r.late} of ${r.pairs}`) : "none")))))),
  el("p", { className: "sub" }, `${words(key)[0].toUpperCase()}${words(key).slice(1)} of each method minus ${ref}, in pairs of runs with the same data, held-out rows, number of components and seed. “Noise”: the interval covers zero, or the difference is below 0.01 %, less than a stopping rule resolves. The interval is Student's t on a delete-one-seed jackknife: pairs that share a seed share held-out rows, so seeds, not pairs, are the repetitions. Not corrected for the number of comparisons.${here.only.length ? ` Of many variants the best of each model is compared: ${here.only.join("; ")}.` : ""}`), refused());
}
const refused = () => (D.refused.length ? el("details", {}, el("summary", {}, `Not compared, because not on equal terms: ${D.refused.length} pair${D.refused.length === 1 ? "" : "s"} of groups on the same data`), el("ul", {}, D.refused.map((text) => el("li", {}, text)))) : null);

// ---------------------------------------------------------------- curves
function drawLegend(box) {
  const here = group();
  box.replaceChildren(...(here ? here.methods : []).map((name, i) => {
    const key = svg("svg", { width: 26, height: 12 });
    key.append(svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: look(i).color, "stroke-width": 2.2, "stroke-dasharray": look(i).dash }), marker(i, 13, 6));
    const off = hidden().includes(name);
    return el("button", { type: "button", id: `${box.id}:${name}`, "aria-pressed": String(!off), onclick: () => set("off", (off ? hidden().filter((other) => other !== name) : [...hidden(), name]).join("|")) }, key, name);
  }));
}
function drawRank() {
  drawLegend($("legend-rank"));
  const here = group(), mine = shown.filter((run) => !hidden().includes(run.method) && Number.isFinite(size(run))), sizes = unique(mine.map(size));
  const has = (key) => mine.some((run) => Number.isFinite(run.metrics[key])), errors = D.measures.map((m) => m[0]).filter((key) => /^(test|train)\/|^objective/.test(key) && has(key));
  const stable = D.measures.map((m) => m[0]).filter((key) => /^(stability|truth|reference|labels|components)\//.test(key) && has(key));
  const pick = (select, keys, wanted, usual) => { const key = keys.includes(wanted) ? wanted : keys.includes(usual) ? usual : keys[0] || ""; choose(select, keys.map((k) => [k, words(k)]), key); return key; };
  const one = pick($("r-error"), errors, get("rerr"), here ? here.main : ""), two = pick($("r-stable"), stable, get("rsta"), "stability/matched_cosine");
  const few = here && sizes.length < 2 ? "A curve needs runs with several numbers of components: nmfnet-train -m model.n_components=2,4,8." : "Choose one group of runs above.";
  const table = [];
  for (const [box, key] of [[$("rank-error"), one], [$("rank-stable"), two]]) {
    if (!here || sizes.length < 2 || !key) { box.replaceChildren(el("p", { className: "sub" }, key || !here || sizes.length < 2 ? few : "No such numbers here: they need n_restarts=2 or more, labels, a reference or a truth.")); continue; }
    const series = here.methods.flatMap((name, i) => {
      const own = mine.filter((run) => run.method === name && Number.isFinite(run.metrics[key])), line = unique(own.map(size)).map((k) => [k, mean(own.filter((run) => size(run) === k).map((run) => run.metrics[key]))]);
      if (line.length) table.push([words(key), name, ...sizes.map((k) => (line.find((p) => p[0] === k) || [])[1])]);
      return [{ name, index: i, points: own.map((run) => [size(run), run.metrics[key]]), faint: true }, { name: `${name}, mean`, index: i, points: line, line: true, dots: "all" }];
    });
    if (key === "train/relative_error" && has("floor/relative_error")) series.push({ name: "SVD floor", plain: true, line: true, points: sizes.map((k) => [k, mean(mine.filter((run) => size(run) === k).map((run) => run.metrics["floor/relative_error"]).filter(Number.isFinite))]) });
    chart(box, { series, x: "number of components", y: words(key), xTicks: sizes, describe: `${words(key)} against number of components, by method; the numbers are in the table below` });
  }
  $("rank-table").replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ["mean over seeds of", "method", ...sizes].map((text, i) => el("th", { scope: "col", className: i < 2 ? "text" : "" }, String(text))))), el("tbody", {}, table.map((row) => el("tr", {}, row.map((v, i) => el("td", { className: i < 2 ? "text" : "" }, fmt(v, 5))))))));
}
function drawConvergence() {
  drawLegend($("legend-conv"));
  const here = group(), boxes = [$("conv-iter"), $("conv-sec")], usable = here ? shown.filter((run) => run.history.length) : [];
  const sizes = unique(usable.map(size)), count = (k) => new Set(usable.filter((run) => size(run) === k).map((run) => run.method)).size;
  const usual = sizes.reduce((a, k) => (a === undefined || count(k) >= count(a) ? k : a), undefined), k = sizes.map(String).includes(get("vsize")) ? get("vsize") : String(usual ?? "");
  choose($("v-size"), sizes.length ? sizes.map((v) => [v, v]) : [["", "–"]], k);
  $("v-y").value = get("vy", "gap");
  const mine = usable.filter((run) => String(size(run)) === k), lowest = new Map();
  for (const run of mine) lowest.set(setting(run, "seed"), run.history[2].reduce((a, b) => Math.min(a, b ?? Infinity), lowest.get(setting(run, "seed")) ?? Infinity));
  let lines = mine.filter((run) => !hidden().includes(run.method)), total = lines.length;
  if (total > LINES) { const rank = new Map(); lines = [...lines].sort((a, b) => good(a, main(a)) - good(b, main(b))).map((run) => { rank.set(run.method, (rank.get(run.method) || 0) + 1); return [rank.get(run.method), run]; }).sort((a, b) => a[0] - b[0]).slice(0, LINES).map((pair) => pair[1]); }
  if (!lines.length) { boxes.forEach((box) => box.replaceChildren()); boxes[0].append(el("p", { className: "sub" }, here ? "No history for these runs." : "Choose one group of runs above: objectives of different data or losses share no axis.")); $("conv-note").textContent = ""; return; }
  const gap = get("vy", "gap") === "gap", y = (v, best) => (v === null ? null : gap ? (v - best) / Math.abs(best || 1) : v);
  const every = lines.flatMap((run) => run.history[1].filter((v) => v > 0)), spread = Math.max(...every) / Math.min(...every) > 50;
  ["iterations", "seconds of training"].forEach((x, column) => chart(boxes[column], { x, y: gap ? "objective / lowest − 1" : "objective", logX: column === 0 || spread, logY: true, describe: `Objective against ${x} for ${lines.length} runs`,
    series: lines.map((run) => ({ name: `${run.method}, seed ${setting(run, "seed")}`, index: index(run), thin: true, line: true, dots: "end", points: run.history[2].map((v, i) => [run.history[column][i], y(v, lowest.get(setting(run, "seed")))]) })) }));
  $("conv-note").textContent = `One line per run with ${k} components${lines.length < total ? `: the best ${lines.length} of ${total}, taken in turn from every method` : ""}. ${gap ? "The lowest is that of the same seed, and so of the same training rows; the line that reaches it ends before, since a logarithmic axis has no zero. " : ""}Penalties are part of the objective.`;
}

// ---------------------------------------------------------------- gallery
function drawGallery() {
  const names = unique(shown.flatMap((run) => Object.keys(run.figures))), name = names.includes(get("fig")) ? get("fig") : names.includes("components") ? "components" : names[0];
  choose($("g-figure"), names.length ? names.map((n) => [n, n.replaceAll("_", " ")]) : [["", "–"]], name);
  const best = new Map();
  for (const run of shown.filter((r) => r.figures[name] !== undefined)) { const place = `${run.group}|${run.method}|${size(run)}`, held = best.get(place); if (!held || good(run, main(run)) < good(held, main(held))) best.set(place, run); }
  const every = [...best.values()].sort((a, b) => a.group - b.group || index(a) - index(b) || size(a) - size(b)), cards = every.slice(0, PICTURES);
  $("pictures").replaceChildren(...cards.map((run) => el("button", { type: "button", id: `pic:${run.id}`, onclick: () => set("run", run.id) }, picture(run, name), el("span", {}, el("b", {}, run.method), ` · ${size(run)} components`, el("br"), `${words(main(run))} ${fmt(run.metrics[main(run)])}${group() ? "" : ` · ${D.groups[run.group].name}`}`))));
  $("gallery-note").textContent = names.length ? `The best run of every method and number of components${cards.length < every.length ? ` (${cards.length} of ${every.length} shown: filter for others)` : ""}.${D.left_out ? ` To keep this page small, pictures of other runs were left out (${D.left_out} files); they are in each run's figures folder.` : ""}` : "These runs wrote no figures (figures=true writes them).";
}

// ---------------------------------------------------------------- summary, failures, warnings
function drawSummary() {
  const here = group(), mine = members(), late = mine.filter((run) => run.metrics.converged === false).length, troubled = mine.filter((run) => run.warnings.length).length;
  const running = D.lost.filter((r) => r.status === "running").length, failed = D.lost.length - running, models = new Set(mine.map((run) => run.method)).size;
  const tile = (n, text, to, kind = "") => el("a", { className: `tile ${n ? kind : ""}`, href: `#${to}`, onclick: jump }, el("b", {}, fmt(n)), el("span", {}, text));
  $("tiles").replaceChildren(tile(mine.length, "runs", "leaderboard"), tile(models, models === 1 ? "method" : "methods", "comparison"), tile(late, "not converged", "trouble", "warn"), tile(troubled, "with warnings", "trouble", "warn"), tile(failed, "failed or lost", "trouble", "bad"), ...(running ? [tile(running, "running", "trouble")] : []));
  $("short").replaceChildren(...(here ? here.short : D.groups.flatMap((g) => g.short.slice(0, 1).map((text) => `${g.name}: ${text}`))).map((text) => el("p", {}, text)), ...(here ? [el("p", { className: "sub" }, `Equal terms: ${Object.entries(here.terms).map(([key, v]) => (key === "data_sha256" ? `data ${String(v).slice(0, 8)}` : `${key}=${fmt(v, 6)}`)).join(", ")}`)] : []), ...(D.runs.length ? [] : [el("p", {}, "No finished run yet.")]));
}
function drawTrouble() {
  const lost = D.lost.map((job) => el("div", { className: "lost" }, el("p", {}, el("span", { className: `chip ${job.status}` }, job.status), " ", el("b", {}, job.id)), job.problem ? el("p", {}, job.problem) : null, job.command ? el("pre", {}, job.command) : null, job.traceback ? el("details", {}, el("summary", {}, "Traceback"), el("pre", {}, job.traceback)) : null));
  $("lost").replaceChildren(el("p", {}, lost.length ? `${lost.length} run(s) without results, in all groups:` : "No failed, interrupted or unreadable runs."), ...lost.slice(0, 100), ...(lost.length > 100 ? [el("p", {}, `and ${lost.length - 100} more.`)] : []));
  const kinds = new Map();
  for (const run of members()) for (const text of run.warnings) { const kind = text.split(/[: ]/).slice(0, text.startsWith("not") ? 2 : 1).join(" "); kinds.set(kind, [...(kinds.get(kind) || []), run]); }
  $("warnings").replaceChildren(el("h3", {}, "Warnings"), kinds.size ? el("ul", {}, [...kinds].map(([kind, runs]) => el("li", {}, `${kind} — ${runs.length} of ${members().length} runs (${unique(runs.map((run) => run.method)).slice(0, 6).join(", ")}) `, el("button", { type: "button", onclick: () => { $("q").value = kind; set("q", kind); $("leaderboard").scrollIntoView(); } }, "show them")))) : el("p", {}, "None for these runs."), ...(D.notes.length ? [el("h3", {}, "Notes on the data"), el("ul", {}, D.notes.map((text) => el("li", {}, text)))] : []));
}

// ---------------------------------------------------------------- one run
function drawRun() {
  const run = D.runs.find((r) => r.id === get("run")), box = $("run");
  if (!run) { if (box.open) box.close(); return; }
  const table = (rows, caption, head = null) => el("div", {}, caption ? el("h3", {}, caption) : null, el("div", { className: "scroll" }, el("table", {}, head ? el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))) : null,
    el("tbody", {}, rows.map(([key, ...values]) => el("tr", {}, el("th", { scope: "row", className: "text", title: key }, key in MEASURE || head ? words(key) : key), values.map((value) => el("td", {}, typeof value === "string" ? value : head ? fmt(value, 6) : given(value)))))))));
  const keys = D.measures.map((m) => m[0]).filter((key) => key in run.metrics), both = keys.some((key) => key.startsWith("test/"));
  const numbers = keys.filter((key) => !key.startsWith("test/")).map((key) => (both && key.startsWith("train/") ? [key, run.metrics[key], run.metrics[key.replace("train/", "test/")] ?? ""] : both ? [key, run.metrics[key], ""] : [key, run.metrics[key]]));
  const flat = (node, path = "") => Object.entries(node).flatMap(([key, value]) => (value && typeof value === "object" && !Array.isArray(value) ? flat(value, `${path}${key} `) : [[path + key, Array.isArray(value) ? value.join("; ") : value]]));
  const own = Object.entries(run.settings), place = order.indexOf(run), step = (by) => () => { if (order[place + by]) set("run", order[place + by].id); };
  $("run-h").textContent = `${run.method} · ${run.id}`;
  $("prev").onclick = step(-1); $("next").onclick = step(1);
  $("prev").disabled = place < 1; $("next").disabled = place < 0 || place + 1 >= order.length;
  const copy = el("button", { type: "button", onclick: () => navigator.clipboard?.writeText(run.command).then(() => { copy.textContent = "Copied"; }) }, "Copy");
  const figures = Object.keys(run.figures);
  $("run-body").replaceChildren(el("p", { className: "sub" }, `${D.groups[run.group].name} · finished ${run.finished || "?"} · folder ${run.folder}`), el("p", {}, run.warnings.map((text) => el("span", { className: "chip warn" }, text))),
    run.command ? el("div", {}, el("h3", {}, "The command that repeats it ", copy), el("pre", {}, run.command)) : "",
    el("div", { className: "two" }, table(numbers, "Numbers", both ? ["", "training", "held-out"] : ["", ""]),
      el("div", {}, table(own, "Settings"), el("details", {}, el("summary", {}, "Settings that all runs share"), table(Object.entries(D.common), "")), el("details", {}, el("summary", {}, "Provenance"), table(flat(D.origins[run.origin]), "")))),
    el("div", { className: "two" }, figures.map((name) => el("figure", {}, el("figcaption", {}, name.replaceAll("_", " ")), picture(run, name)))),
    figures.length ? "" : el("p", { className: "sub" }, `No pictures of this run in the page; they are in ${run.folder}/figures.`));
  if (!box.open) box.showModal();
  $("run-body").parentElement.scrollTop = 0;
}

// ---------------------------------------------------------------- together
function draw() {
  const focus = document.activeElement?.id;
  shown = members().filter(matches);
  for (const part of [drawFilters, drawSummary, drawTable, drawComparison, drawRank, drawConvergence, drawGallery, drawTrouble, drawRun]) part();
  if (focus && document.activeElement?.id !== focus) $(focus)?.focus({ preventScroll: true });
}
function jump(event) { event.preventDefault(); $(event.currentTarget.getAttribute("href").slice(1)).scrollIntoView({ behavior: "smooth" }); }
function start() {
  choose($("group"), [...D.groups.map((g, i) => [i, `${g.name} (${D.runs.filter((run) => run.group === i).length} runs)`]), ...(D.groups.length === 1 ? [] : [["all", `all ${D.runs.length} runs (leaderboard only)`]])], get("g", "0"));
  $("nav").replaceChildren(...[...document.querySelectorAll("section")].map((section) => el("a", { href: `#${section.id}`, onclick: jump }, section.querySelector("h2").textContent)));
  document.querySelector(".skip").onclick = (event) => { jump(event); $("q").focus(); };
  $("group").onchange = (event) => { for (const key of [...state.keys()]) if (!["off", "cols"].includes(key)) state.delete(key); $("q").value = ""; all = false; set("g", event.target.value); };
  for (const [id, key] of [["c-key", "ckey"], ["c-ref", "cref"], ["c-size", "csize"], ["r-error", "rerr"], ["r-stable", "rsta"], ["v-y", "vy"], ["v-size", "vsize"], ["g-figure", "fig"]]) $(id).onchange = (event) => set(key, event.target.value);
  let wait = 0;
  $("q").value = get("q");
  $("q").oninput = () => { clearTimeout(wait); wait = setTimeout(() => set("q", $("q").value), 150); };
  $("reset").onclick = () => { for (const key of [...state.keys()]) if (key !== "g") state.delete(key); $("q").value = ""; all = false; set("run", ""); };
  $("more").onclick = () => { all = true; draw(); };
  $("close").onclick = () => $("run").close();
  $("run").onclose = () => { const id = get("run"); set("run", ""); $(`run:${id}`)?.focus(); };
  $("run").onclick = (event) => { if (event.target === $("run")) $("run").close(); };
  $("run").onkeydown = (event) => { if (event.key === "ArrowLeft") $("prev").click(); if (event.key === "ArrowRight") $("next").click(); };
  $("theme").onclick = () => { const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches; document.documentElement.dataset.theme = dark ? "light" : "dark"; };
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; clearTimeout(wait); wait = setTimeout(() => { drawRank(); drawConvergence(); }, 150); } });
  draw();
  if (D.fingerprint) live();
}
function live() {
  const chip = $("live"), say = (text, kind) => { chip.hidden = false; chip.textContent = text; chip.className = `chip ${kind}`; };
  const back = JSON.parse(sessionStorage.getItem("nmfnet") || "null");
  sessionStorage.removeItem("nmfnet");
  if (back) { scrollTo(0, back.scroll); $(back.focus)?.focus({ preventScroll: true }); }
  say("live", "live");
  setInterval(async () => {
    try {
      const answer = await (await fetch("fingerprint.json", { cache: "no-store" })).json();
      say("live", "live");
      if (answer.fingerprint === D.fingerprint) return;
      sessionStorage.setItem("nmfnet", JSON.stringify({ scroll: scrollY, focus: document.activeElement?.id || "" }));
      location.reload();
    } catch { say("server stopped", "warn"); }
  }, 3000);
}
start();
