"use strict";
// Draws the page from its data: no library, and texts are only ever set as texts.

const SMALL = 400, MIDDLE = 600, LARGE = 1180; // widths of charts, in units of a drawing
const COLORS = 8, EVERY = 3000; // colours of the style sheet; milliseconds
const HEIGHTS = { [SMALL]: 230, [MIDDLE]: 280, [LARGE]: 380 };
const state = { smooth: 0, seeds: false, hidden: new Set(), closed: new Set(), visits: {}, filter: "" };
let data = JSON.parse(document.getElementById("data").textContent);
let connection = "";

// ---- elements

function make(kind, attributes = {}, ...children) {
  return fill(document.createElement(kind), attributes, children);
}

function draw(kind, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", kind), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// ---- numbers

function format(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

function tickText(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return Number((value / 1e9).toPrecision(4)) + "G";
  if (size >= 1e6) return Number((value / 1e6).toPrecision(4)) + "M";
  if (size >= 1e4) return Number((value / 1e3).toPrecision(4)) + "k";
  if (size > 0 && size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(4)));
}

// Round numbers between two bounds.
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of [1, 3]) found.push(factor * 10 ** power);
  return found.filter((value) => value >= low / 1.001 && value <= high * 1.001);
}

// Exponential moving average without the pull towards zero at its start (Kingma & Ba 2015).
function smoothed(line, weight) {
  if (!weight) return line;
  let mean = 0, share = 1;
  return line.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    share *= weight;
    return mean / (1 - share);
  });
}

function overSeeds(lines) {
  const length = lines.length ? lines[0].length : 0;
  const mean = new Array(length).fill(null), low = mean.slice(), high = mean.slice();
  for (let i = 0; i < length; i++) {
    const known = lines.map((line) => line[i]).filter((value) => value !== null);
    if (!known.length) continue;
    mean[i] = known.reduce((a, b) => a + b) / known.length;
    const deviation = Math.sqrt(known.reduce((a, b) => a + (b - mean[i]) ** 2, 0) / known.length);
    low[i] = mean[i] - deviation;
    high[i] = mean[i] + deviation;
  }
  return { mean, low, high };
}

function nearest(xs, x) {
  let first = 0, last = xs.length - 1;
  while (last - first > 1) {
    const middle = (first + last) >> 1;
    if (xs[middle] < x) first = middle; else last = middle;
  }
  return Math.abs(xs[first] - x) <= Math.abs(xs[last] - x) ? first : last;
}

// ---- charts

function curveOf(group, metric, weight) {
  const raw = group.values[metric];
  const lines = raw.map((line) => smoothed(line, weight));
  return { group, raw: overSeeds(raw), lines, ...overSeeds(lines) };
}

function path(xs, ys) {
  let text = "", pen = "M";
  ys.forEach((y, i) => {
    if (y === null) { pen = "M"; return; }
    text += `${pen}${xs[i].toFixed(1)},${y.toFixed(1)}`;
    pen = "L";
  });
  return text;
}

function bandPath(xs, lows, highs) {
  const known = xs.map((_, i) => i).filter((i) => lows[i] !== null);
  if (known.length < 2) return "";
  const there = known.map((i) => `${xs[i].toFixed(1)},${highs[i].toFixed(1)}`);
  const back = known.reverse().map((i) => `${xs[i].toFixed(1)},${lows[i].toFixed(1)}`);
  return `M${there.join("L")}L${back.join("L")}Z`;
}

function plane(height, xs, ys, options) {
  const margin = { left: 52, right: 12, top: 8, bottom: 36 }, width = options.width;
  let [left, right] = [Math.min(...xs), Math.max(...xs)], [low, high] = [Math.min(...ys), Math.max(...ys)];
  if (left === right) { left -= options.log ? left / 2 : 0.5; right += options.log ? right : 0.5; }
  const size = Math.max(Math.abs(low), Math.abs(high));
  const slack = (high - low > size * 1e-6 ? high - low : size || 1) * 0.06; // rounding is no change
  low -= slack; high += slack;
  const scale = options.log ? Math.log : (value) => value;
  const inner = width - margin.left - margin.right, rise = height - margin.top - margin.bottom;
  const pad = options.pad || 0;
  const px = (x) => margin.left + inner * (pad + (1 - 2 * pad) * (scale(x) - scale(left)) / (scale(right) - scale(left)));
  const py = (y) => margin.top + rise * (1 - (y - low) / (high - low));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": options.label });
  for (const y of ticks(low, high, height > 240 ? 6 : 4)) {
    svg.append(draw("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: py(y), y2: py(y) }));
    svg.append(draw("text", { x: margin.left - 7, y: py(y) + 4, "text-anchor": "end" }, tickText(y)));
  }
  const at = options.ticks || (options.log ? logTicks(left, right) : ticks(left, right, width > 600 ? 8 : 5)).map((x) => [x, tickText(x)]);
  for (const [x, text] of at)
    svg.append(draw("text", { x: px(x), y: height - margin.bottom + 16, "text-anchor": "middle" }, text));
  const base = height - margin.bottom;
  svg.append(draw("line", { class: "frame", x1: margin.left, x2: width - margin.right, y1: base, y2: base }));
  svg.append(draw("text", { class: "axis", x: margin.left + inner / 2, y: height - 4, "text-anchor": "middle" }, options.xLabel));
  return { svg, px, py, margin, inner, width, height, left, right };
}

function curveChart(metric, groups, xLabel, width) {
  const card = make("div", { class: "card", "data-metric": metric }, make("h3", {}, metric));
  const weight = width === MIDDLE ? 0 : state.smooth; // evaluations are few, and shown as they are
  const curves = groups.filter(({ group }) => !state.hidden.has(group.label) && group.values[metric])
    .map(({ group, color }) => ({ ...curveOf(group, metric, weight), color }));
  const xs = [], ys = [];
  for (const curve of curves) {
    const shown = state.seeds ? curve.lines : [curve.low, curve.high];
    curve.group.x.forEach((x, i) => {
      const known = shown.map((line) => line[i]).filter((value) => value !== null);
      if (known.length) { xs.push(x); ys.push(Math.min(...known), Math.max(...known)); }
    });
  }
  if (!xs.length) {
    card.append(make("div", { class: "nothing" }, "no numbers yet"));
    return card;
  }
  const axes = plane(HEIGHTS[width], extremes(xs), extremes(ys), { xLabel, label: metric, width });
  const shade = curves.length > 4 ? 0.07 : 0.15;
  for (const curve of curves) {
    const across = curve.group.x.map(axes.px), up = (line) => line.map((y) => (y === null ? null : axes.py(y)));
    const color = `var(--c${curve.color})`;
    if (state.seeds)
      for (const line of curve.lines)
        axes.svg.append(draw("path", { d: path(across, up(line)), fill: "none", stroke: color, "stroke-width": 1.1, opacity: .75 }));
    else {
      if (curve.lines.length > 1)
        axes.svg.append(draw("path", { class: "band", d: bandPath(across, up(curve.low), up(curve.high)), fill: color, opacity: shade }));
      if (weight)
        axes.svg.append(draw("path", { class: "raw", d: path(across, clipped(up(curve.raw.mean), axes)), fill: "none", stroke: color, "stroke-width": 1, opacity: .28 }));
      axes.svg.append(draw("path", { class: "curve", d: path(across, up(curve.mean)), fill: "none", stroke: color, "stroke-width": 2, "stroke-linejoin": "round" }));
      if (curve.group.x.length < 30)
        curve.mean.forEach((y, i) => y !== null && axes.svg.append(draw("circle", { cx: across[i], cy: axes.py(y), r: 2.4, fill: color })));
    }
  }
  hover(axes, curves, xLabel);
  card.append(axes.svg);
  return card;
}

function extremes(values) { // of many numbers, which Math.min(...) would not take
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}

function clipped(line, axes) {
  const top = axes.margin.top, bottom = axes.height - axes.margin.bottom;
  return line.map((y) => (y === null ? null : Math.max(top, Math.min(bottom, y))));
}

function hover(axes, curves, xLabel) {
  const cursor = draw("line", { class: "cursor", y1: axes.margin.top, y2: axes.height - axes.margin.bottom, visibility: "hidden" });
  axes.svg.append(cursor);
  axes.svg.addEventListener("pointermove", (event) => {
    const box = axes.svg.getBoundingClientRect();
    const across = (event.clientX - box.left) * axes.width / box.width;
    const share = (across - axes.margin.left) / axes.inner;
    if (share < -0.02 || share > 1.02) { leave(); return; }
    const x = axes.left + share * (axes.right - axes.left);
    const rows = curves.map((curve) => {
      const i = nearest(curve.group.x, x), half = (curve.high[i] - curve.low[i]) / 2;
      const spread = curve.lines.length > 1 ? ` ± ${format(half > Math.abs(curve.mean[i]) * 1e-6 ? half : 0)}` : "";
      return [curve.color, curve.group.label, format(curve.mean[i]) + (curve.mean[i] === null ? "" : spread), curve.group.x[i]];
    });
    const at = rows.length === 1 ? rows[0][3] : x;
    cursor.setAttribute("x1", axes.px(at));
    cursor.setAttribute("x2", axes.px(at));
    cursor.setAttribute("visibility", "visible");
    showTip(event, `${Math.round(at).toLocaleString("en")} ${xLabel}`, rows);
  });
  const leave = () => { cursor.setAttribute("visibility", "hidden"); hideTip(); };
  axes.svg.addEventListener("pointerleave", leave);
}

function showTip(event, title, rows) {
  hideTip();
  const tip = make("div", { id: "tip" }, make("b", {}, title),
    ...rows.map(([color, label, text]) => make("div", {}, make("i", { style: `background: var(--c${color})` }), make("span", {}, label), make("span", {}, text))));
  document.body.append(tip);
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - 16 - box.width : event.clientX + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - box.height - 6)}px`;
}

function hideTip() {
  document.getElementById("tip")?.remove();
}

function sensitivityChart(found) {
  const xs = found.numeric ? found.values : found.values.map((_, i) => i);
  const all = [...found.low, ...found.high, ...found.points.flat()].filter((value) => value !== null);
  const names = xs.length <= 8 || !found.numeric ? xs.map((x, i) => [x, found.numeric ? tickText(Number(x.toPrecision(3))) : found.values[i]]) : null;
  const axes = plane(300, extremes(xs), extremes(all), { width: MIDDLE, xLabel: found.field, label: `final return against ${found.field}`, log: found.logarithmic, ticks: names, pad: .06 });
  const across = xs.map(axes.px), up = (line) => line.map((y) => (y === null ? null : axes.py(y)));
  if (found.joined) {
    axes.svg.append(draw("path", { d: bandPath(across, up(found.low), up(found.high)), fill: "var(--c0)", opacity: .15 }));
    axes.svg.append(draw("path", { class: "curve", d: path(across, up(found.center)), fill: "none", stroke: "var(--c0)", "stroke-width": 2 }));
  }
  xs.forEach((x, i) => {
    for (const y of found.points[i])
      if (y !== null) axes.svg.append(draw("circle", { cx: axes.px(x), cy: axes.py(y), r: 2.2, fill: "var(--soft)", opacity: .45 }));
    if (!found.joined)
      axes.svg.append(draw("line", { x1: axes.px(x), x2: axes.px(x), y1: axes.py(found.low[i]), y2: axes.py(found.high[i]), stroke: "var(--c0)", "stroke-width": 2 }));
    const dot = draw("circle", { cx: axes.px(x), cy: axes.py(found.center[i]), r: 4.5, fill: "var(--c0)", stroke: "var(--card)", "stroke-width": 1.5 });
    const text = `${format(found.center[i])} [${format(found.low[i])}, ${format(found.high[i])}]`;
    dot.addEventListener("pointermove", (event) => showTip(event, `${found.field} ${found.values[i]}`, [[0, "IQM, 95 % interval", text]]));
    dot.addEventListener("pointerleave", hideTip);
    axes.svg.append(dot);
  });
  return make("div", { class: "card", "data-field": found.field }, make("h3", {}, `final return against ${found.field}`), axes.svg);
}

// ---- sections

function section(id, title, note, ...children) {
  return make("section", { id }, make("h2", {}, title, note ? make("small", {}, note) : null), ...children);
}

function colored(name) {
  const groups = [];
  for (const run of data.runs)
    for (const group of run[name]) {
      const label = run.kind === "sweep" && data.runs.length > 1 ? `${run.name}: ${group.label}` : group.label;
      groups.push({ group: { ...group, label }, color: groups.length % COLORS, xLabel: run.x_label });
    }
  return groups;
}

function kindsOf(groups) { // metric and unit of x, in the order in which they are met
  const found = new Map();
  for (const entry of groups)
    for (const metric of Object.keys(entry.group.values)) {
      const key = JSON.stringify([metric, entry.xLabel]);
      found.set(key, [...(found.get(key) || []), entry]);
    }
  return [...found].map(([key, entries]) => [...JSON.parse(key), entries]);
}

function overview() {
  const cards = data.runs.map((run) => make("div", { class: "card" },
    make("h3", {}, run.name), make("div", { class: "title" }, run.title),
    make("div", { class: run.status.startsWith("complete") ? "status done" : "status" }, run.status),
    make("dl", {}, ...run.facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))));
  return section("overview", "Overview", "", make("div", { class: "cards" }, ...cards));
}

function legend(groups) {
  return make("div", { class: "legend" }, ...groups.map(({ group, color }) => make("button", {
    "data-off": state.hidden.has(group.label), title: "show or hide",
    onclick: () => { state.hidden.has(group.label) ? state.hidden.delete(group.label) : state.hidden.add(group.label); render(); },
  }, make("i", { style: `background: var(--c${color})` }), group.label)));
}

function curves() {
  const groups = colored("groups"), main = new Set(data.runs.flatMap((run) => run.main));
  const kinds = kindsOf(groups);
  const many = groups.some(({ group }) => group.seeds.length > 1);
  const note = many ? (state.seeds ? "a line for each seed" : "mean over seeds, ± one standard deviation") : "";
  const large = [...main].flatMap((name) => kinds.filter(([metric]) => metric === name)).map(([metric, xLabel, entries]) => curveChart(metric, entries, xLabel, LARGE));
  const others = kinds.filter(([metric]) => !main.has(metric));
  const shown = others.filter(([metric]) => metric.includes(state.filter));
  const parts = [legend(groups), make("div", { class: "charts wide" }, ...large)];
  if (!groups.length) parts.push(make("div", { class: "nothing" }, "no curves yet"));
  if (others.length) {
    const search = make("input", { type: "search", placeholder: "find a metric", value: state.filter, id: "filter",
      oninput: (event) => { state.filter = event.target.value; render(); } });
    parts.push(folded("metrics", `${others.length} more metrics`,
      make("div", { class: "bar" }, search),
      make("div", { class: "charts" }, ...shown.map(([metric, xLabel, entries]) => curveChart(metric, entries, xLabel, SMALL)))));
  }
  return section("curves", "Learning curves", note, ...parts);
}

function folded(name, title, ...children) {
  const attributes = { style: "margin-top: 1.2rem", ontoggle: (event) => { event.target.open ? state.closed.delete(name) : state.closed.add(name); } };
  const part = make("details", attributes, make("summary", {}, title), ...children);
  part.open = !state.closed.has(name);
  return part;
}

function evaluation() {
  const groups = colored("evaluations").filter(({ group }) => group.x.length);
  if (!groups.length) return null;
  return section("evaluation", "Evaluation", "fresh episodes, or held-out prompts",
    make("div", { class: "charts pair" }, ...kindsOf(groups).map(([metric, xLabel, entries]) => curveChart(metric, entries, xLabel, MIDDLE))));
}

function sweeps() {
  const runs = data.runs.filter((run) => run.sweep);
  if (!runs.length) return null;
  return section("sweep", "Hyperparameters", "final return: IQM over seeds and settings, 95 % interval",
    ...runs.flatMap((run) => {
      const { best, command, sensitivities, table, num_settings: count, pruned } = run.sweep;
      const numbers = table.names.map((_, i) => table.rows.every((row) => row[i] === "–" || !Number.isNaN(Number(row[i]))));
      const cell = (kind) => (text, i) => make(kind, { class: numbers[i] ? "number" : null }, text);
      const rows = table.rows.map((row, i) => make("tr", { class: i ? null : "first" }, ...row.map(cell("td"))));
      return [
        make("div", { class: "card", style: "margin-bottom: 1rem" }, make("h3", {}, run.name), make("div", {}, best),
          command ? make("pre", { class: "command" }, command) : null,
          pruned ? make("div", { class: "title" }, "settings had different budgets: their returns are not compared by field") : null),
        make("div", { class: "charts pair" }, ...sensitivities.map(sensitivityChart)),
        make("div", { class: "card scroll", style: "margin-top: 1rem" }, make("table", {},
          make("thead", {}, make("tr", {}, ...table.names.map(cell("th")))), make("tbody", {}, ...rows))),
        count > rows.length ? make("div", { class: "title" }, `the best ${rows.length} of ${count} settings`) : null,
      ];
    }));
}

function diagnosis() {
  const found = data.runs.flatMap((run) => run.notes.map((note) => make("li", { class: note.level }, data.runs.length > 1 ? `${run.name}: ` : "", note.text)));
  if (!found.length) found.push(make("li", {}, "nothing diverged, nothing was held back"));
  return section("diagnosis", "Diagnosis", "", make("div", { class: "card" }, make("ul", { class: "notes" }, ...found)));
}

function samples() {
  const runs = data.runs.filter((run) => run.samples.length);
  if (!runs.length) return null;
  return section("samples", "Samples", "the first answers of the last batch before each visit, unchosen", ...runs.map((run) => {
    const visits = [...new Set(run.samples.map((row) => row.iteration))];
    const chosen = visits.includes(state.visits[run.name]) ? state.visits[run.name] : visits[visits.length - 1];
    const choice = make("select", { onchange: (event) => { state.visits[run.name] = Number(event.target.value); render(); } },
      ...visits.map((visit) => make("option", { value: visit, ...(visit === chosen ? { selected: "" } : {}) }, `iteration ${visit}`)));
    const rows = run.samples.filter((row) => row.iteration === chosen).map((row) => make("tr", {},
      make("td", { class: "text" }, row.prompt), make("td", { class: "text" }, row.response), make("td", { class: "number" }, format(row.score))));
    const head = make("tr", {}, make("th", {}, "prompt"), make("th", {}, "answer"), make("th", { class: "number" }, "score"));
    return make("div", { class: "card" }, make("div", { class: "bar" }, make("h3", {}, run.name), choice),
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }));
}

function policies() {
  const runs = data.runs.filter((run) => run.gif || run.no_gif);
  if (!runs.length) return null;
  return section("policy", "Policy", "", make("div", { class: "policy" }, ...runs.map((run) => make("div", { class: "card" }, make("h3", {}, run.name),
    run.gif ? make("img", { src: run.gif, alt: `an episode of ${run.name}` }) : make("div", { class: "title" }, run.no_gif)))));
}

function settings(id, title, pick) {
  const columns = data.runs.map(pick), names = [...new Set(columns.flatMap(Object.keys))];
  const rows = names.map((name) => {
    const values = columns.map((column) => column[name] ?? "–");
    return make("tr", { class: new Set(values).size > 1 ? "differs" : null }, make("td", { class: "mono" }, name), ...values.map((value) => make("td", { class: "mono" }, value)));
  });
  const head = make("tr", {}, make("th", {}, ""), ...data.runs.map((run) => make("th", {}, run.name)));
  const note = data.runs.length > 1 ? "what differs is shaded" : "";
  return section(id, title, note, make("div", { class: "card scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
}

// ---- the page

function header(sections) {
  const names = data.runs.map((run) => run.name);
  const title = names.length > 1 ? `${names.length} runs` : names.join(", ");
  const output = make("output", {}, state.smooth.toFixed(2));
  const slider = make("input", { type: "range", min: 0, max: .99, step: .01, value: state.smooth, id: "smooth", "aria-label": "smoothing",
    oninput: (event) => { state.smooth = Number(event.target.value); output.textContent = state.smooth.toFixed(2); redrawCurves(); } });
  const seeds = make("button", { "aria-pressed": state.seeds, id: "seeds", onclick: () => { state.seeds = !state.seeds; render(); } }, "each seed");
  const theme = make("button", { id: "theme", title: "light or dark", onclick: () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark") }, "◐");
  return make("header", {}, make("h1", {}, title),
    make("nav", {}, ...sections.map((part) => make("a", { href: `#${part.id}` }, part.querySelector("h2").firstChild.textContent))),
    data.live ? make("span", { class: connection ? "live lost" : "live", id: "live" }, connection || "● live") : null,
    make("div", { class: "controls" }, make("label", {}, "smoothing", slider, output), seeds, theme));
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
}

function redrawCurves() {
  document.getElementById("curves").replaceWith(curves());
}

function render() {
  const focused = document.activeElement?.id, place = document.activeElement?.selectionStart;
  hideTip();
  const sections = [overview(), curves(), evaluation(), sweeps(), diagnosis(), samples(), policies(),
    settings("configuration", "Configuration", (run) => run.config),
    settings("versions", "Time and versions", (run) => ({ ...Object.fromEntries(run.timing), ...run.versions }))].filter(Boolean);
  const foot = make("footer", {}, `jaxrl_po ${data.version}${data.stamp ? `, written ${data.stamp}` : ""}. Curves of more than 400 points are shown as means.`);
  document.getElementById("page").replaceChildren(header(sections), ...sections, foot);
  if (focused && focused !== "page") {
    const element = document.getElementById(focused);
    element?.focus({ preventScroll: true });
    if (element?.type === "search") element.setSelectionRange(place, place);
  }
}

let tag = "";
async function refresh() {
  try {
    const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 304) { say(""); return; }
    if (!answer.ok) { say(`● ${await answer.text()}`); return; }
    tag = answer.headers.get("ETag") || "";
    data = { ...data, ...(await answer.json()) };
    connection = "";
    render();
  } catch {
    say("● the server has ended: these are the last numbers");
  }
}

function say(text) {
  connection = text;
  const place = document.getElementById("live");
  if (place) { place.textContent = text || "● live"; place.className = text ? "live lost" : "live"; }
}

const dark = matchMedia("(prefers-color-scheme: dark)");
setTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
render();
const again = () => setTimeout(() => refresh().finally(again), EVERY); // never two at a time
if (data.live) again();
