"use strict";
// The data, the state of the page, and which rows are shown.
// State lives in the address (#g=...&q=...): it can be shared, and survives the dashboard's reload.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MEASURE = Object.fromEntries(D.measures.map(([key, words, better]) => [key, { words, better }]));
const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
let shown = []; // runs that match the filters
let order = []; // the same in the order of the table

const get = (key, other = "") => state.get(key) ?? other;
function set(key, value) {
  if (value === "" || value === null) state.delete(key);
  else state.set(key, value);
  try {
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  } catch { /* some browsers refuse this for files */ }
  draw();
}

const words = (key) => (MEASURE[key] ? MEASURE[key].words : key.replace(/^model\./, ""));
const setting = (run, key) => (key in run.settings ? run.settings[key] : D.common[key]);
const size = (run) => setting(run, "model.n_components");
const sized = (before, n) => (Number.isFinite(n) ? `${before}${n} components` : ""); // some models find their number
const seed = (run) => setting(run, "seed");
const main = (run) => D.groups[run.group].main;
const index = (run) => D.groups[run.group].drawn.indexOf(run.method); // -1: one of very many methods
const everything = () => get("g") === "all";
const chosen = () => Math.max(0, D.groups.findIndex((g) => g.id === get("g")));
const group = () => (everything() ? null : D.groups[chosen()] || null);
const members = () => D.runs.filter((run) => everything() || run.group === chosen());
const hidden = () => get("off").split("|").filter(Boolean);
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const numbers = (runs, key) => runs.map((run) => run.metrics[key]).filter(Number.isFinite);
const distinct = (runs, key) => new Set(runs.map((run) => setting(run, key))).size;

function unique(values) {
  const number = (v) => typeof v === "number";
  const text = (a, b) => String(a).localeCompare(String(b), undefined, { numeric: true });
  return [...new Set(values)].sort((a, b) => (number(a) && number(b) ? a - b : text(a, b)));
}
// Smaller is better, whatever the number.
function badness(run, key) {
  const value = run.metrics[key];
  return Number.isFinite(value) ? -MEASURE[key].better * value : Infinity;
}
// The best run of every place; place is a function from a run to a key.
function bestOf(runs, place) {
  const best = new Map();
  for (const run of runs) {
    const held = best.get(place(run));
    if (!held || badness(run, main(run)) < badness(held, main(held))) best.set(place(run), run);
  }
  return [...best.values()];
}

function columns() {
  const mine = members();
  const varied = D.settings.filter((key) => key === "model" || distinct(mine, key) > 1);
  const front = /^(data|loss|split|model|model\.n_components)$/;
  const present = D.measures.map((m) => m[0]).filter((key) => mine.some((run) => key in run.metrics));
  const first = mine.length ? main(mine[0]) : "";
  const other = first.startsWith("test") ? first.replace("test", "train") : first.replace("train", "test");
  const usual = [first, other, "truth/matched_cosine", "reference/assigned_cosine", "labels/ari",
    "stability/matched_cosine", "n_iter", "seconds", "converged", "certificate/fall"];
  const picked = state.has("cols") ? get("cols").split(",") : usual;
  return {
    present,
    before: varied.filter((key) => front.test(key)),
    after: varied.filter((key) => !front.test(key)),
    picked: present.filter((key) => picked.includes(key)).sort((a, b) => picked.indexOf(a) - picked.indexOf(b)),
  };
}

function matches(run) {
  for (const key of D.settings) {
    if (state.has(`f.${key}`) && String(setting(run, key)) !== get(`f.${key}`)) return false;
  }
  const text = [run.id, run.method, ...Object.values(run.settings), ...run.warnings].join(" ").toLowerCase();
  return get("q").toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const [, key, sign, value] = word.match(/^([\w./]+)([=<>])(.+)$/) || [];
    return key ? compares(run, key, sign, value) : text.includes(word);
  });
}
// seed=1, n_components=8, relative_error<0.4: the end of a name is enough.
function compares(run, key, sign, value) {
  const named = (name) => name === key || name.endsWith(`.${key}`) || name.endsWith(`/${key}`);
  return Object.keys({ ...D.common, ...run.settings, ...run.metrics }).filter(named).some((name) => {
    const own = name in run.metrics ? run.metrics[name] : setting(run, name);
    if (sign === "=") return String(own).toLowerCase() === value;
    return sign === "<" ? own < Number(value) : own > Number(value);
  });
}

function sortKey() {
  const [key, reversed] = get("sort", shown.length ? main(shown[0]) : "").split("~");
  return { key, reversed: Boolean(reversed) };
}
// The best first; what has no value last, either way round.
function sorted(rows) {
  const { key, reversed } = sortKey();
  const value = (run) => (key in MEASURE ? run.metrics[key] : setting(run, key));
  const none = (v) => v === undefined || v === null;
  const sign = (key in MEASURE && MEASURE[key].better > 0 ? -1 : 1) * (reversed ? -1 : 1);
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (none(x) || none(y)) return none(x) - none(y);
    return sign * (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
  });
}
