// What /v1/live tells, drawn. Everything from the node is put in as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
const SPAN_MS = 600000, LEAST_SPAN_MS = 60000;
const points = [];
let last = null;
const open = new Set();

// ---- elements ----------------------------------------------------------------------------------------------------

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(ratio, kind) {
  const inner = element("span");
  inner.style.width = `${Math.min(100, Math.max(0, ratio * 100)).toFixed(1)}%`;
  return element("span", { class: `bar ${kind}` }, inner);
}

// ---- numbers -----------------------------------------------------------------------------------------------------

function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}

function seconds(value) {
  if (value === null || value === undefined) return ["–", ""];
  if (value < 0.001) return [(value * 1e6).toFixed(0), "µs"];
  if (value < 1) return [(value * 1e3).toFixed(value < 0.01 ? 2 : value < 0.1 ? 1 : 0), "ms"];
  return [value.toFixed(value < 10 ? 2 : 1), "s"];
}

const time = (value) => seconds(value).join(" ").trim();
// For axes: 1 ms and not 1.00 ms.
const round = (value) => time(value).replace(/\.0+(?= )/, "");
function percent(value) {
  if (value === null || value === undefined) return "–";
  const digits = value > 0 && value < 1 && (value > 0.995 || value < 0.1) ? 1 : 0;
  return `${(value * 100).toFixed(digits)} %`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at++; }
  return `${value.toFixed(value < 10 && at > 0 ? 1 : 0)} ${units[at]}`;
}

function span(total) {
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${total % 60} s` : `${total} s`;
}

const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

// ---- charts ------------------------------------------------------------------------------------------------------

// The next number that reads well: 1, 2 or 5 with zeros.
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

// From 0 to a number that reads well.
function linear(values, fixed) {
  const ceil = fixed || ceiling(Math.max(0, ...values) * 1.05);
  return { share: (value) => Math.min(value, ceil) / ceil, grid: [0, 0.25, 0.5, 0.75, 1].map((share) => [share * ceil, share % 0.5 === 0]) };
}

// From one power of ten to another: a hit takes a thousandth of the time of a miss.
function decades(values) {
  const logs = values.filter((value) => value > 0).map(Math.log10);
  const low = Math.floor(Math.min(...(logs.length ? logs : [-4])));
  const high = Math.max(low + 2, Math.ceil(Math.max(...(logs.length ? logs : [0]))));
  const share = (value) => (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low);
  return { share, grid: Array.from({ length: high - low + 1 }, (_, at) => [10 ** (low + at), true]) };
}

class Chart {
  constructor(id, lines, format, scale) {
    Object.assign(this, { lines, format, scale, pointer: null });
    this.figure = $(id);
    this.legend = element("div", { class: "legend" });
    this.svg = drawn("svg", { role: "img", "aria-label": this.figure.textContent.trim() });
    this.figure.append(this.legend, this.svg);
    this.svg.addEventListener("pointermove", (event) => { this.pointer = event.offsetX; this.draw(); });
    this.svg.addEventListener("pointerleave", () => { this.pointer = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  draw() {
    const { svg, lines } = this, width = svg.clientWidth, height = svg.clientHeight;
    if (width === 0) return;
    const left = 50, right = 6, top = 10, bottom = 22;
    const end = points.length ? points[points.length - 1].unix_ms : Date.now();
    const start = end - Math.min(SPAN_MS, Math.max(LEAST_SPAN_MS, points.length ? end - points[0].unix_ms : 0));
    const shown = points.filter((point) => point.unix_ms >= start);
    const { share, grid } = this.scale(shown.flatMap((point) => lines.map((line) => point[line.field] ?? 0)));
    const x = (ms) => left + ((ms - start) / (end - start)) * (width - left - right);
    const y = (value) => height - bottom - share(value) * (height - top - bottom);
    const parts = [];
    for (const [value, isNamed] of grid) {
      const at = y(value);
      parts.push(drawn("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
      if (isNamed) parts.push(drawn("text", { class: "axis", x: left - 8, y: at + 4, "text-anchor": "end" }, this.format(value)));
    }
    for (const share of [0, 0.5, 1]) {
      const anchor = ["start", "middle", "end"][share * 2];
      parts.push(drawn("text", { class: "axis", x: left + share * (width - left - right), y: height - 4, "text-anchor": anchor }, clock(start + share * (end - start))));
    }
    let any = false;
    for (const line of lines) {
      // A gap where there is no value; a lone value is a dot.
      const runs = [];
      let run = null;
      for (const point of shown) {
        const value = point[line.field];
        if (value === null || value === undefined) { run = null; continue; }
        if (run === null) runs.push((run = []));
        run.push([x(point.unix_ms), y(value)]);
      }
      for (const run of runs) {
        any = true;
        const path = run.map(([px, py], at) => `${at ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
        if (line.fill) {
          const base = height - bottom;
          parts.push(drawn("path", { class: `area ${line.kind}`, d: `${path}L${run[run.length - 1][0].toFixed(1)} ${base}L${run[0][0].toFixed(1)} ${base}Z` }));
        }
        parts.push(run.length > 1
          ? drawn("path", { class: `line ${line.kind}`, d: path })
          : drawn("circle", { class: `dot ${line.kind}`, cx: run[0][0], cy: run[0][1], r: 3.5 }));
      }
    }
    if (!any) parts.push(drawn("text", { class: "nothing", x: (left + width) / 2, y: height / 2 }, "no value yet"));
    let at = [...shown].reverse().find((point) => lines.some((line) => point[line.field] !== null)) || null;
    if (this.pointer !== null && shown.length) {
      const distance = (point) => Math.abs(x(point.unix_ms) - this.pointer);
      at = shown.reduce((best, point) => (distance(point) < distance(best) ? point : best));
      parts.push(drawn("line", { class: "cross", x1: x(at.unix_ms), x2: x(at.unix_ms), y1: top, y2: height - bottom }));
      for (const line of lines) {
        if (at[line.field] !== null) parts.push(drawn("circle", { class: `dot ${line.kind}`, cx: x(at.unix_ms), cy: y(at[line.field]), r: 4 }));
      }
    }
    svg.replaceChildren(...parts);
    this.legend.replaceChildren(
      ...lines.map((line) => element("span", null, element("i", { class: line.kind }), line.name, element("b", null, at ? this.format(at[line.field]) : "–"))),
      ...(this.pointer !== null && at ? [element("span", null, clock(at.unix_ms))] : []),
    );
  }
}

const charts = [
  new Chart("chart-requests", [
    { field: "requests", name: "all", kind: "one", fill: true },
    { field: "failures", name: "failed", kind: "bad", fill: true },
  ], count, linear),
  new Chart("chart-latency", [
    { field: "p99", name: "p99", kind: "three" },
    { field: "p95", name: "p95", kind: "two" },
    { field: "p50", name: "p50", kind: "one" },
  ], round, decades),
  new Chart("chart-hits", [{ field: "hit_ratio", name: "hit rate", kind: "good", fill: true }], percent, (values) => linear(values, 1)),
];

// ---- the parts of the page ---------------------------------------------------------------------------------------

function tile(name, value, unit, more, alarm) {
  return element("div", { class: alarm ? "tile alarm" : "tile", "data-name": name },
    element("div", { class: "name" }, name),
    element("div", { class: "value" }, value, unit ? element("small", null, unit) : null),
    element("div", { class: "more" }, more));
}

function showTiles({ traffic, latency, cache, cores }) {
  const busy = cores.reduce((sum, core) => sum + core.busy_ratio, 0) / Math.max(1, cores.length);
  const most = Math.max(0, ...cores.map((core) => core.busy_ratio));
  $("tiles").replaceChildren(
    tile("Requests / s", count(traffic.requests_per_second), "", `${count(traffic.requests)} in all`),
    tile("Failed / s", count(traffic.failures_per_second), "", `${count(traffic.failures)} in all`, traffic.failures_per_second > traffic.requests_per_second / 20),
    tile("Request p95", ...seconds(latency.request.p95_seconds), `p99 ${time(latency.request.p99_seconds)}`),
    tile("First token p95", ...seconds(latency.first_token.p95_seconds), `p50 ${time(latency.first_token.p50_seconds)}`),
    tile("Hit rate", percent(cache.hit_ratio), "", `${count(cache.hits)} hits, ${count(cache.joined)} joined`),
    tile("In flight", count(traffic.requests_in_flight), "", `${count(traffic.connections)} connections`),
    tile("Tokens / s", count(traffic.tokens_per_second), "", "in and out"),
    tile("Cores busy", percent(busy), "", `the busiest ${percent(most)}`));
}

function table(id, heads, rows) {
  const head = element("tr", null, ...heads.map(([name, kind]) => element("th", { class: kind || null, scope: "col" }, name)));
  $(id).replaceChildren(element("thead", null, head), element("tbody", null, ...rows));
}

const row = (kind, ...cells) => element("tr", { class: kind || null },
  ...cells.map((cell) => (cell instanceof Element ? cell : Array.isArray(cell) ? element("td", { class: cell[1], title: cell[2] }, cell[0]) : element("td", null, cell))));

function reasonOf(backend) {
  const words = [];
  if (backend.check_fault) words.push(`check: ${backend.check_fault}`);
  if (backend.reason) {
    const ago = backend.changed_unix_ms ? `, ${span(Math.max(0, Math.round((Date.now() - backend.changed_unix_ms) / 1000)))} ago` : "";
    words.push(backend.reason.replaceAll("_", " ") + ago);
  }
  return words.join("; ");
}

function showBackends({ backends }) {
  const serving = backends.filter((backend) => backend.state === "serving").length;
  $("backends-note").textContent = `${serving} of ${backends.length} serving`;
  const order = { tripped: 0, probing: 1, serving: 2 };
  const sorted = [...backends].sort((a, b) => order[a.state] - order[b.state] || b.attempts_per_second - a.attempts_per_second);
  const rows = sorted.flatMap((backend) => {
    const { connections, cores, results } = backend, reason = reasonOf(backend);
    const main = row(`opens ${backend.state}`,
      [backend.name, "text name", backend.address],
      element("td", { class: "text" }, element("span", { class: `pill ${backend.state}` }, backend.state)),
      count(backend.requests_in_flight),
      count(backend.attempts_per_second),
      [count(backend.failed_attempts_per_second), backend.failed_attempts_per_second > 0 ? "bad" : ""],
      `${count(connections.idle)} / ${count(connections.busy)} / ${count(connections.http2)}`,
      count(backend.attempts),
      [reason, `text long ${backend.state === "tripped" ? "bad" : ""}`, reason]);
    main.dataset.backend = backend.name;
    main.tabIndex = 0;
    main.setAttribute("aria-expanded", open.has(backend.name));
    if (!open.has(backend.name)) return [main];
    const told = Object.entries(results).filter(([, number]) => number > 0).map(([name, number]) => `${name.replaceAll("_", " ")} ${count(number)}`);
    const text = `${backend.address}. Cores: ${cores.serving} serving, ${cores.probing} probing, ${cores.tripped} tripped. Attempts: ${told.join(", ") || "none"}.`;
    return [main, element("tr", { class: "detail" }, element("td", { class: "text", colspan: 8 }, text))];
  });
  const focused = document.activeElement?.dataset?.backend;
  table("backends", [["Name", "text"], ["State", "text"], ["In flight"], ["Attempts / s"], ["Failed / s"], ["Idle / busy / h2"], ["Attempts"], ["Why", "text"]], rows);
  if (focused) [...document.querySelectorAll("[data-backend]")].find((one) => one.dataset.backend === focused)?.focus();
}

function showCores({ cores, core_plan }) {
  $("cores-note").textContent = core_plan.summary;
  $("cores").replaceChildren(...cores.map((core) => element("div", { class: "core" },
    element("div", { class: "head" }, element("b", null, core.cpu === null ? `core ${core.core}` : `core ${core.core} · CPU ${core.cpu}`), percent(core.busy_ratio)),
    bar(core.busy_ratio, core.busy_ratio > 0.85 ? "bad" : core.busy_ratio > 0.7 ? "fair" : "one"),
    element("div", { class: "foot" }, `${count(core.requests_per_second)} requests/s, ${count(core.messages_per_second)} messages/s`))));
}

function showCache({ cache, latency, traffic }) {
  const rows = [
    ["Cache", cache.enabled ? `${bytes(cache.bytes)} of ${bytes(cache.budget_bytes)}, ${count(cache.entries)} answers` : "off",
      cache.enabled ? bar(cache.bytes / Math.max(1, cache.budget_bytes), "one") : null],
    ["Hits, joined, misses", `${count(cache.hits)}, ${count(cache.joined)}, ${count(cache.misses)}`],
    ["Served stale, not looked up", `${count(cache.stale)}, ${count(cache.bypassed)}`],
    ["Gateway's own time of a hit, p50 / p99", `${time(latency.overhead_hit.p50_seconds)} / ${time(latency.overhead_hit.p99_seconds)}`],
    ["Added to a miss, p50 / p99", `${time(latency.overhead_miss.p50_seconds)} / ${time(latency.overhead_miss.p99_seconds)}`],
    ["Upstream calls", count(traffic.upstream_calls)],
    ["Retries, fallbacks, hedges", `${count(traffic.retries)}, ${count(traffic.fallbacks)}, ${count(traffic.hedges)}`],
  ];
  $("cache").replaceChildren(...rows.flatMap(([name, value, more]) => [element("dt", null, name), element("dd", null, value, more)]));
}

function showModels({ models }) {
  const sorted = [...models].sort((a, b) => b.requests_per_second - a.requests_per_second);
  table("models", [["Name", "text"], ["Requests / s"], ["Waiting"], ["Backends", "text"]],
    sorted.map((model) => row("", [model.name, "text name"], count(model.requests_per_second), count(model.queue_depth), [model.backends.join(", "), "text long", model.backends.join(", ")])));
}

function showTenants({ tenants }) {
  table("tenants", [["Name", "text"], ["Requests / s"], ["Tokens / s"], ["Requests"], ["Failed"], ["Tokens"], ["Saved"]],
    tenants.map((tenant) => row("", [tenant.name, "text name"], count(tenant.requests_per_second), count(tenant.tokens_per_second),
      count(tenant.requests), [count(tenant.failures), tenant.failures > 0 ? "bad" : ""], count(tenant.prompt_tokens + tenant.completion_tokens), count(tenant.saved_tokens))));
}

function show(update, isFirst) {
  last = update.status;
  if (isFirst) points.length = 0;
  points.push(...update.points.filter((point) => !points.length || point.unix_ms > points[points.length - 1].unix_ms));
  while (points.length && points[points.length - 1].unix_ms - points[0].unix_ms > SPAN_MS) points.shift();
  [$("main").hidden, $("ask").hidden, $("trouble").hidden] = [false, true, true];
  $("main").classList.remove("stale");
  pill(last.state);
  $("about").textContent = `${last.listening.join(", ")} · version ${last.version} · generation ${last.config_generation} · up ${span(last.uptime_seconds)}`;
  document.title = `${count(last.traffic.requests_per_second)}/s · Ringway`;
  for (const part of [showTiles, showBackends, showCores, showCache, showModels, showTenants]) part(last);
  for (const chart of charts) chart.draw();
}

function pill(state) {
  $("state").className = `pill ${state}`;
  $("state").textContent = state;
}

// ---- the stream --------------------------------------------------------------------------------------------------

class WrongToken extends Error {}

// An EventSource could not send a token.
async function follow() {
  const token = sessionStorage.getItem("token");
  const answer = await fetch("/v1/live", { headers: token ? { authorization: `Bearer ${token}` } : {}, cache: "no-store" });
  if (answer.status === 401) throw new WrongToken(token ? "This is not the token." : "");
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", isFirst = true;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) show(JSON.parse(data.slice(6)), isFirst);
      isFirst = false;
    }
  }
}

async function main() {
  for (;;) {
    try {
      await follow();
    } catch (error) {
      const asks = error instanceof WrongToken;
      pill(asks ? "token" : "lost");
      $("ask").hidden = !asks;
      $("main").hidden = asks || last === null;
      $("main").classList.add("stale");
      $("trouble").textContent = asks ? error.message : `No news from the node: ${error.message}. Trying again.`;
      $("trouble").hidden = !$("trouble").textContent;
      if (asks) return;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token").value = "";
  main();
});

function toggle(target) {
  const name = target.closest("[data-backend]")?.dataset.backend;
  if (!name) return;
  if (!open.delete(name)) open.add(name);
  showBackends(last);
}
$("backends").addEventListener("click", (event) => toggle(event.target));
$("backends").addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(event.target); });

// ---- light and dark ----------------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
function paint() {
  document.documentElement.dataset.theme = localStorage.getItem("theme") || (dark.matches ? "dark" : "light");
}
dark.addEventListener("change", paint);
$("theme").addEventListener("click", () => {
  localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  paint();
});
paint();
main();
