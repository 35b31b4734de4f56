// Drawing: elements, numbers, and one line chart (SVG) with a tooltip.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "style" && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
function svg(tag, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text) node.textContent = text;
  return node;
}
const NARROW_SPACE = "\u202f";
function fmt(x, digits = 4) {
  if (x === null || x === undefined || x === "") return "–";
  if (typeof x === "boolean") return x ? "yes" : "no";
  if (typeof x !== "number") return String(x);
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e7 || size < 1e-4)) return Number(x.toPrecision(digits)).toExponential().replace("e+", "e");
  if (Number.isInteger(x) || size >= 10 ** digits) return Math.round(x).toString().replace(/\B(?=(\d{3})+$)/g, NARROW_SPACE);
  return Number(x.toPrecision(digits)).toString();
}
// One way of writing for a column of numbers: the same decimals, so that they align.
function aligned(values) {
  const sizes = values.filter(Number.isFinite).map(Math.abs), top = Math.max(...sizes, 0), low = Math.min(...sizes.filter((v) => v > 0), top);
  if (!sizes.length || top >= 1e7 || low < 1e-5 || values.every((v) => !Number.isFinite(v) || Number.isInteger(v))) return (v) => fmt(v, 5);
  const decimals = Math.max(0, 4 - Math.max(0, Math.floor(Math.log10(top)) + 1) + (low < 0.01 ? 1 : 0));
  return (v) => (Number.isFinite(v) ? (decimals ? v.toFixed(decimals) : fmt(Math.round(v))) : fmt(v));
}
function ticks(low, high, log) {
  if (log && high / low >= 8) {
    const from = Math.floor(Math.log10(low)), to = Math.ceil(Math.log10(high));
    const step = Math.max(1, Math.ceil((to - from) / 6)), within = to - from <= 2 ? [1, 2, 5] : [1];
    const all = [];
    for (let e = from; e <= to; e += step) for (const m of within) all.push(m * 10 ** e);
    return all.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  }
  const raw = (high - low) / 5 || Math.abs(high) || 1, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= raw * 0.999);
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) all.push(Number((i * step).toPrecision(12)));
  return all;
}
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "5 2"];
const look = (i) => (i < 0 ? { color: "var(--soft)", dash: "1 3" } : { color: `var(--c${i % 10})`, dash: DASHES[i % DASHES.length] });
function marker(i, x, y, size = 4) {
  const points = [
    null,
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.25], [1.15, 0.9], [-1.15, 0.9]],
    [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
    [[0, 1.25], [1.15, -0.9], [-1.15, -0.9]],
  ][Math.max(i, 0) % 5];
  const fill = { fill: look(i).color, stroke: "var(--card)" };
  if (!points) return svg("circle", { cx: x, cy: y, r: size, ...fill });
  return svg("polygon", { points: points.map(([a, b]) => `${x + a * size},${y + b * size}`).join(" "), ...fill });
}
function label(value) {
  return Math.abs(value) >= 1e5 ? value.toExponential(1).replace(".0e", "e").replace("e+", "e") : fmt(value, 6);
}
// series: {name, index, points: [[x, y], ...], line, dots: "all" | "end" | null, plain: grey dashed line}
function chart(box, { series, x, y, logX = false, logY = false, xTicks = null, describe }) {
  box.replaceChildren();
  const ok = (p) => p.every(Number.isFinite) && (!logX || p[0] > 0) && (!logY || p[1] > 0);
  const drawn = series.map((s) => ({ ...s, points: s.points.filter(ok) })).filter((s) => s.points.length);
  const all = drawn.flatMap((s) => s.points);
  if (!all.length) return box.append(el("p", { className: "sub" }, "Nothing to draw for this choice."));
  const width = Math.max(260, box.clientWidth || 500), height = Math.min(320, Math.max(230, width * 0.55));
  const [left, right, top, bottom] = [62, 14, 12, 42];
  const range = (values, log, pad) => {
    let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    const same = high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high));
    if (log) return same ? [low / 2, high * 2] : [low / (high / low) ** pad, high * (high / low) ** pad];
    if (same) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
    return [low - (high - low) * pad, high + (high - low) * pad];
  };
  const [x0, x1] = range(all.map((p) => p[0]), logX, xTicks ? 0.06 : 0.02), [y0, y1] = range(all.map((p) => p[1]), logY, 0.06);
  const scale = (v, a, b, log) => (log ? Math.log(v / a) / Math.log(b / a) : (v - a) / (b - a));
  const X = (v) => left + scale(v, x0, x1, logX) * (width - left - right);
  const Y = (v) => height - bottom - scale(v, y0, y1, logY) * (height - top - bottom);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe });
  const atX = (xTicks || ticks(x0, x1, logX)).filter((v) => v >= x0 && v <= x1);
  const every = Math.ceil(atX.length / Math.max(3, Math.floor(width / 62)));
  for (const v of ticks(y0, y1, logY)) {
    root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: Y(v), y2: Y(v) }));
    root.append(svg("text", { x: left - 7, y: Y(v) + 4, "text-anchor": "end" }, label(v)));
  }
  atX.forEach((v, i) => i % every === 0 && root.append(svg("text", { x: X(v), y: height - bottom + 17, "text-anchor": "middle" }, label(v))));
  root.append(svg("text", { class: "title", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, x));
  root.append(svg("text", { class: "title", x: 12, y: (top + height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(top + height - bottom) / 2})` }, y));
  const spots = [];
  for (const s of drawn) {
    const { color, dash } = s.plain ? { color: "var(--soft)", dash: "4 4" } : look(s.index);
    const at = s.points.map((p) => [X(p[0]), Y(p[1])]);
    if (s.line && at.length > 1) root.append(svg("polyline", { points: at.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" "), fill: "none", stroke: color, "stroke-width": s.thin ? 1.4 : 2.2, "stroke-dasharray": dash, "stroke-linejoin": "round", opacity: s.thin ? 0.85 : 1 }));
    if (s.faint) for (const p of at) root.append(svg("circle", { cx: p[0], cy: p[1], r: 2.6, fill: color, opacity: 0.45 }));
    if (s.dots) for (const p of s.dots === "end" ? at.slice(-1) : at) root.append(marker(s.index, ...p, s.thin ? 3 : 4.5));
    s.points.forEach((p, i) => spots.push([...at[i], `${s.name}: ${fmt(p[1], 5)} at ${fmt(p[0], 4)}`]));
  }
  const tip = el("div", { className: "tip", hidden: true });
  box.append(root, tip);
  box.onpointerleave = () => { tip.hidden = true; };
  box.onpointermove = (event) => {
    const frame = root.getBoundingClientRect(), mx = event.clientX - frame.left, my = event.clientY - frame.top;
    let near = null, least = 900;
    for (const spot of spots) { const d = (spot[0] - mx) ** 2 + (spot[1] - my) ** 2; if (d < least) { least = d; near = spot; } }
    tip.hidden = !near;
    if (!near) return;
    tip.textContent = near[2];
    const free = box.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(free, near[0] - tip.offsetWidth / 2))}px`;
    tip.style.top = `${near[1] + (near[1] > 40 ? -34 : 14)}px`;
  };
}
