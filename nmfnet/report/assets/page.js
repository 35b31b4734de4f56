// Summary, curves, gallery; then what starts and redraws everything.
const LINES = 60, PICTURES = 48, NAMES = 12, FLOOR = 1e-4;

function drawSummary() {
  const here = group(), mine = members(), methods = new Set(mine.map((run) => run.method)).size;
  const late = mine.filter((run) => run.metrics.converged === false).length;
  const troubled = mine.filter((run) => run.warnings.length).length;
  const running = D.lost.filter((r) => r.status === "running").length, failed = D.lost.length - running;
  const tile = (n, text, to, kind = "") => el("a", { className: `tile ${n ? kind : ""}`, href: `#${to}`, onclick: jump },
    el("b", {}, fmt(n)), el("span", {}, text));
  $("tiles").replaceChildren(
    tile(mine.length, mine.length === 1 ? "run" : "runs", "leaderboard"),
    tile(methods, methods === 1 ? "method" : "methods", "comparison"),
    tile(late, "not converged", "trouble", "warn"),
    tile(troubled, "with warnings", "trouble", "warn"),
    tile(failed, "failed or lost", "trouble", "bad"),
    ...(running ? [tile(running, "running", "trouble")] : []));
  const say = here ? here.short : D.groups.flatMap((g) => g.short.slice(0, 1).map((text) => `${g.name}: ${text}`));
  const term = ([key, v]) => (key === "data_sha256" ? `data ${String(v).slice(0, 8)}` : `${key}=${given(v)}`);
  $("short").replaceChildren(...say.map((text) => el("p", {}, text)),
    here ? note(`Equal terms: ${Object.entries(here.terms).map(term).join(", ")}`) : "",
    D.runs.length ? "" : note("No finished run yet."));
  drawRunning(D.lost.filter((r) => r.status === "running").map((r) => [r.id, r.progress]));
}
function drawRunning(runs) {
  $("running").replaceChildren(...runs.slice(0, PICTURES).map(([id, how]) => el("p", {},
    el("span", { className: "chip running" }, "running"), " ", el("b", {}, id), how ? `: ${how}` : "")));
}

// ---------------------------------------------------------------- curves
function drawLegend(box, names) {
  box.replaceChildren(...names.map((name, i) => {
    const key = svg("svg", { width: 26, height: 12, "aria-hidden": "true" });
    const line = { stroke: look(i).color, "stroke-width": 2.2, "stroke-dasharray": look(i).dash };
    key.append(svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, ...line }), marker(i, 13, 6));
    const off = hidden().includes(name), others = hidden().filter((other) => other !== name);
    const press = () => set("off", (off ? others : [...hidden(), name]).join("|"));
    return el("button", { type: "button", id: `${box.id}:${name}`, "aria-pressed": String(!off), onclick: press }, key, name);
  }));
}
function pick(select, keys, wanted, usual) {
  const key = [wanted, usual, keys[0]].find((k) => keys.includes(k)) || "";
  choose(select, keys.length ? keys.map((k) => [k, words(k)]) : [["", "–"]], key);
  return key;
}
function drawRank() {
  const here = group(), k = "model.n_components", numeric = (key) => members().every((run) => ["number", "undefined"].includes(typeof setting(run, key)));
  const settings = here ? D.settings.filter((key) => numeric(key) && distinct(members(), key) > 1) : [];
  const x = [get("rx"), k, settings[0]].find((key) => settings.includes(key)) || k, at = (run) => setting(run, x);
  choose($("r-x"), [...new Set([x, ...settings])].map((key) => [key, key === k ? "number of components" : key]), x);
  const own = new RegExp(` ${x.replaceAll(".", "\\.")}=\\S+`), line = (run) => run.method.replace(own, "");
  const every = here ? (x === k ? here.drawn : unique(members().map(line))) : [], names = every.slice(0, NAMES);
  drawLegend($("legend-rank"), names);
  const mine = shown.filter((run) => names.includes(line(run)) && !hidden().includes(line(run)) && Number.isFinite(at(run)));
  const places = unique(mine.map(at)), keys = D.measures.map((m) => m[0]).filter((key) => numbers(mine, key).length);
  const error = pick($("r-error"), keys.filter((key) => /^(test|train)\/|^(objective|seconds|n_iter)$/.test(key)), get("rerr"), here?.main);
  const groups = /^(stability|truth|reference|labels|components)\//;
  const stable = pick($("r-stable"), keys.filter((key) => groups.test(key)), get("rsta"), "stability/matched_cosine");
  const table = [], wide = places[0] > 0 && places.at(-1) / places[0] > 50;
  for (const [box, key] of [[$("rank-error"), error], [$("rank-stable"), stable]]) {
    const why = !here ? "Choose one group of runs above."
      : places.length < 2 ? "A curve needs several values: nmfnet-train -m model.n_components=2,4,8."
      : !key ? "No such numbers here: they need n_restarts=2 or more, labels, a reference or a truth." : "";
    if (why) { box.replaceChildren(note(why)); continue; }
    const series = names.flatMap((name, i) => {
      const runs = mine.filter((run) => line(run) === name && Number.isFinite(run.metrics[key]));
      const means = unique(runs.map(at)).map((v) => [v, mean(numbers(runs.filter((run) => at(run) === v), key))]);
      if (means.length) table.push([words(key), name, ...places.map((v) => (means.find((p) => p[0] === v) || [])[1])]);
      return [{ name, index: i, points: runs.map((run) => [at(run), run.metrics[key]]), faint: true },
        { name: `${name}, mean`, index: i, points: means, line: places.length <= 30, dots: "all", thin: places.length > 12 }];
    });
    const floor = "floor/relative_error", low = (v) => mean(numbers(mine.filter((run) => at(run) === v), floor));
    if (key === "train/relative_error" && x === k && numbers(mine, floor).length) {
      series.push({ name: "SVD floor", plain: true, line: true, points: places.map((v) => [v, low(v)]) });
    }
    const title = x === k ? "number of components" : words(x);
    const describe = `${words(key)} against ${title}, by method; the numbers are in the table below`;
    chart(box, { series, x: title, y: words(key), logX: wide, xTicks: wide || places.length > 12 ? null : places, describe });
  }
  const cell = (value, i) => el("td", { className: i < 2 ? "text" : "" }, fmt(value, 5));
  const head = ["mean over seeds of", "method", ...places.map((v) => fmt(v, 6))].map((text, i) =>
    el("th", { scope: "col", className: i < 2 ? "text" : "" }, text));
  $("rank-table").replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, head)),
    el("tbody", {}, table.map((row) => el("tr", {}, row.map(cell))))));
  $("rank-note").textContent = here && names.length < here.methods.length && x === k ? `Of ${here.methods.length} variants the best of each model is drawn.`
    : names.length < every.length ? `The first ${names.length} of ${every.length} variants are drawn: filter for others.` : "";
}

function drawConvergence() {
  const here = group(), usable = here ? shown.filter((run) => run.history.length && index(run) >= 0) : [];
  const sizes = unique(usable.map(size));
  drawLegend($("legend-conv"), here ? here.drawn : []);
  const methods = (k) => new Set(usable.filter((run) => size(run) === k).map((run) => run.method)).size;
  const usual = sizes.reduce((a, k) => (a === undefined || methods(k) >= methods(a) ? k : a), undefined);
  const k = sizes.map(String).includes(get("vsize")) ? get("vsize") : String(usual ?? "");
  choose($("v-size"), sizes.length ? sizes.map((v) => [v, v ?? "–"]) : [["", "–"]], k);
  $("v-y").value = get("vy", "gap");
  const mine = usable.filter((run) => String(size(run)) === k), gap = $("v-y").value === "gap";
  const lowest = new Map(), smaller = (a, b) => Math.min(a, b ?? Infinity);
  for (const run of mine) lowest.set(seed(run), run.history[2].reduce(smaller, lowest.get(seed(run)) ?? Infinity));
  const on = mine.filter((run) => !hidden().includes(run.method)), lines = inTurn(on).slice(0, LINES);
  const boxes = [$("conv-iter"), $("conv-sec")];
  if (!lines.length) {
    boxes[0].replaceChildren(note(here ? "No history of these runs."
      : "Choose one group of runs above: objectives of different data or losses share no axis."));
    boxes[1].replaceChildren();
    $("conv-note").textContent = "";
    return;
  }
  const value = (v, best) => (v === null || !gap ? v : Math.max(FLOOR, (v - best) / Math.abs(best || 1)));
  const times = lines.flatMap((run) => run.history[1].filter((v) => v > 0));
  const wide = Math.max(...times) / Math.min(...times) > 50;
  ["iterations", "seconds of training"].forEach((x, column) => chart(boxes[column], {
    x, y: gap ? "objective / lowest − 1" : "objective", logX: column === 0 || wide, logY: true,
    describe: `Objective against ${x} of ${lines.length} runs`,
    series: lines.map((run) => ({
      name: `${run.method}, seed ${seed(run)}`, index: index(run), thin: true, line: true, dots: "end",
      points: run.history[2].map((v, i) => [run.history[column][i], value(v, lowest.get(seed(run)))]),
    })),
  }));
  const some = lines.length < on.length ? `: the best ${lines.length} of ${on.length}, in turn from every method` : "";
  $("conv-note").textContent = `One line per run${sized(" with ", Number(k))}${some}. ` + (gap ? "The lowest is that of the same " +
    `seed, and so of the same training rows; gaps below ${FLOOR} are drawn at ${FLOOR}. `
    : "") + "Penalties are part of the objective.";
}
// The best run of every method, then the second best, ...
function inTurn(runs) {
  const turn = new Map();
  return [...runs].sort((a, b) => badness(a, main(a)) - badness(b, main(b))).map((run) => {
    turn.set(run.method, (turn.get(run.method) || 0) + 1);
    return [turn.get(run.method), run];
  }).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
}

// ---------------------------------------------------------------- gallery
function drawGallery() {
  const names = unique(shown.flatMap((run) => Object.keys(run.figures)));
  const name = [get("fig"), "components", names[0]].find((n) => names.includes(n)) || "";
  choose($("g-figure"), names.length ? names.map((n) => [n, n.replaceAll("_", " ")]) : [["", "–"]], name);
  const best = bestOf(shown.filter((run) => name in run.figures), (run) => `${run.group}|${run.method}|${size(run)}`);
  const rank = (run) => (index(run) < 0 ? Infinity : index(run)), cost = (run) => badness(run, main(run));
  best.sort((a, b) => a.group - b.group || (rank(a) === rank(b) ? 0 : rank(a) - rank(b)) || size(a) - size(b) || cost(a) - cost(b));
  const cards = best.slice(0, PICTURES);
  $("pictures").replaceChildren(...cards.map((run) => el("button", { type: "button", id: `pic:${run.id}`, onclick: () => set("run", run.id) },
    picture(run, name), el("span", {}, el("b", {}, run.method), sized(" · ", size(run)), el("br"),
      [main(run) in run.metrics ? `${words(main(run))} ${fmt(run.metrics[main(run)])}` : "", group() ? "" : D.groups[run.group].name]
        .filter(Boolean).join(" · ")))));
  const images = [...$("pictures").querySelectorAll("img")], wide = (image) => image.naturalWidth > 1.5 * image.naturalHeight;
  Promise.allSettled(images.map((image) => image.decode())).then(() =>
    $("pictures").classList.toggle("wide", images.filter(wide).length > images.length / 2));
  const some = cards.length < best.length ? ` (${cards.length} of ${best.length}; filter for others)` : "";
  const left = D.left_out ? ` To keep this page small, ${fmt(D.left_out)} pictures of other runs were left out; they are in the runs' figures folders.` : "";
  $("gallery-note").textContent = names.length ? `The best run of every method and number of components${some}.${left}`
    : "These runs have no figures here (figures=true writes them).";
}

// ---------------------------------------------------------------- together
function draw() {
  const focus = document.activeElement?.id;
  shown = members().filter(matches);
  drawFilters(); drawSummary(); drawTable(); drawComparison(); drawRank();
  drawConvergence(); drawGallery(); drawTrouble(); drawRun();
  if (focus && document.activeElement?.id !== focus) $(focus)?.focus({ preventScroll: true });
}
function jump(event) {
  event.preventDefault();
  $(event.currentTarget.getAttribute("href").slice(1)).scrollIntoView();
}
function clear(kept) {
  for (const key of [...state.keys()]) if (!kept.includes(key)) state.delete(key);
  $("q").value = "";
  everyRow = false;
}
function start() {
  const groups = D.groups.map((g, i) => [g.id, `${g.name} (${count(D.runs.filter((run) => run.group === i).length, "run")})`]);
  choose($("group"), D.groups.length <= 1 ? groups : [...groups, ["all", `all ${D.runs.length} runs (leaderboard only)`]], everything() ? "all" : group()?.id);
  $("group").onchange = (event) => { clear(["off", "cols"]); set("g", event.target.value); };
  const sections = [...document.querySelectorAll("section")];
  $("nav").replaceChildren(...sections.map((s) => el("a", { href: `#${s.id}`, onclick: jump }, s.querySelector("h2").textContent)));
  document.querySelector(".skip").onclick = (event) => { jump(event); $("q").focus(); };
  const selects = { "c-key": "ckey", "c-ref": "cref", "c-size": "csize", "r-x": "rx", "r-error": "rerr", "r-stable": "rsta",
    "v-y": "vy", "v-size": "vsize", "g-figure": "fig" };
  for (const [id, key] of Object.entries(selects)) $(id).onchange = (event) => set(key, event.target.value);
  let wait = 0;
  const soon = (what) => { clearTimeout(wait); wait = setTimeout(what, 150); };
  $("q").value = get("q");
  $("q").oninput = () => soon(() => set("q", $("q").value));
  $("reset").onclick = () => { clear(["g"]); set("run", ""); };
  $("more").onclick = () => { everyRow = true; draw(); };
  $("close").onclick = () => $("run").close();
  $("run").onclose = () => { const id = get("run"); set("run", ""); $(`run:${id}`)?.focus(); };
  $("run").onclick = (event) => { if (event.target === $("run")) $("run").close(); };
  $("run").onkeydown = (event) => {
    if (event.key === "ArrowLeft") $("prev").click();
    if (event.key === "ArrowRight") $("next").click();
  };
  $("theme").onclick = () => {
    const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
  };
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; soon(() => { drawRank(); drawConvergence(); }); }
  });
  draw();
  if (D.fingerprint) live();
}
// Ask the dashboard for news, and load the page again with filters, place and focus as they are.
function live() {
  const back = JSON.parse(sessionStorage.getItem("nmfnet") || "null");
  sessionStorage.removeItem("nmfnet");
  if (back) { scrollTo(0, back.scroll); $(back.focus)?.focus({ preventScroll: true }); }
  const say = (text, kind) => Object.assign($("live"), { hidden: false, textContent: text, className: `chip ${kind}` });
  say("live", "live");
  setInterval(async () => {
    try {
      const answer = await (await fetch("fingerprint.json", { cache: "no-store" })).json();
      say("live", "live");
      drawRunning(answer.running);
      if (answer.fingerprint === D.fingerprint) return;
      const here = { scroll: scrollY, focus: document.activeElement?.id || "" };
      sessionStorage.setItem("nmfnet", JSON.stringify(here));
      location.reload();
    } catch { say("server stopped", "warn"); }
  }, 3000);
}
start();
