// Charts over time, and histograms: SVG at the width that there is.

const tidy = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3)));

// About `count` round numbers from `low` to `high`.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high * (1 + 1e-9); at++) found.push(+(at * step).toPrecision(12));
  return found;
}

const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000];
function timeTicks(end, count) {
  const step = TIMES.find((n) => end / n <= count) || Math.ceil(end / count / 86400) * 86400;
  return Array.from({ length: Math.floor(end / step + 1e-9) + 1 }, (_, at) => at * step);
}
function clock(seconds) {
  if (seconds < 120) return `${tidy(seconds)} s`;
  const minutes = seconds / 60;
  if (minutes < 120) return `${tidy(minutes)} min`;
  return minutes < 2880 ? `${tidy(minutes / 60)} h` : `${tidy(minutes / 1440)} d`;
}

// The executions put end to end: points, waits, and where a later one begins.
function timeline() {
  const line = { points: [], waits: [], again: [], end: 0 };
  for (const one of data.history) {
    if (line.end) line.again.push({ at: line.end, began: one.began });
    for (const [at, seconds, texts, tokens, attempts, took, slowest, perMinute, tokensPerMinute] of one.points) {
      if (seconds > 0) line.points.push({ at: line.end + at, seconds, texts, attempts, took, slowest, perMinute, tokensPerMinute, tokens });
    }
    const length = one.points.reduce((sum, point) => Math.max(sum, point[0] + point[1]), 0);
    for (const [at, seconds, kind, reason] of one.waits) {
      line.waits.push({ at: line.end + at, seconds: Math.min(seconds, length - at), kind, reason });
    }
    line.end += length;
  }
  return line;
}

const LEFT = 58, RIGHT = 14, TOP = 26, BOTTOM = 24;

// One chart: `curves` are {of: point => value or null, kind}, drawn as steps.
function steps(line, { title, curves, height, last }) {
  const width = Math.max(260, $("charts").clientWidth);
  const bottom = last ? BOTTOM : 8;
  const values = curves.flatMap((curve) => line.points.map(curve.of)).filter((value) => value !== null);
  const top = Math.max(...values, 0) * 1.06 || 1;
  const x = (at) => LEFT + (at / line.end) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / top) * (height - TOP - bottom);
  const made = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  made.append(shape("title", {}, title));
  for (const wait of line.waits) {
    const band = shape("rect", { class: "wait", x: x(wait.at), width: Math.max(1, x(wait.at + wait.seconds) - x(wait.at)), y: TOP, height: height - TOP - bottom });
    band.append(shape("title", {}, `${wait.kind} for ${clock(wait.seconds)}: ${wait.reason}`));
    made.append(band);
  }
  for (const value of ticks(0, top, 3)) {
    made.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    made.append(shape("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, tidy(value)));
  }
  for (const curve of curves) {
    let path = "", open = false;
    for (const point of line.points) {
      const value = curve.of(point);
      if (value === null) { open = false; continue; }
      path += `${open ? "L" : "M"}${x(point.at).toFixed(1)},${y(value).toFixed(1)}H${x(point.at + point.seconds).toFixed(1)}`;
      open = true;
    }
    if (curve.kind === "curve" && path && !curve.bare) {
      made.append(shape("path", { class: "area", d: `${path}V${y(0)}H${x(line.points[0].at)}Z` }));
    }
    made.append(shape("path", { class: curve.kind, d: path }));
  }
  for (const start of line.again) {
    made.append(shape("line", { class: "again", x1: x(start.at), x2: x(start.at), y1: TOP, y2: height - bottom }));
  }
  made.append(shape("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(0), y2: y(0) }));
  made.append(shape("text", { class: "title", x: 0, y: 14 }, title));
  if (last) {
    for (const at of timeTicks(line.end, width < 500 ? 4 : 8)) {
      made.append(shape("text", { x: x(at), y: height - 6, "text-anchor": at ? "middle" : "start" }, clock(at)));
    }
  }
  const here = shape("line", { class: "here", y1: TOP, y2: height - bottom, visibility: "hidden" });
  made.append(here);
  return { made, here, x, at: (place) => ((place - LEFT) / (width - LEFT - RIGHT)) * line.end, width };
}

function drawCharts() {
  const line = timeline();
  if (!$("charts") || !line.points.length) return;
  const perMinute = (value, point) => (60 * value) / point.seconds;
  const limited = line.points.some((point) => point.perMinute), metered = line.points.some((point) => point.tokensPerMinute);
  const charts = [{ title: "Texts a second", curves: [{ kind: "curve", of: (point) => point.texts / point.seconds }], height: 150 }];
  const starts = [{ kind: "curve", of: (point) => perMinute(point.attempts, point) }];
  if (limited) starts.push({ kind: "limit", of: (point) => point.perMinute });
  charts.push({ title: limited ? "Requests that ended, a minute; and the limit" : "Requests that ended, a minute; no limit was known", curves: starts, height: 150 });
  if (metered) {
    charts.push({ title: "Tokens a minute; and the limit", height: 150, curves: [
      { kind: "curve", of: (point) => perMinute(point.tokens, point) }, { kind: "limit", of: (point) => point.tokensPerMinute }] });
  }
  charts.push({ title: "Seconds a request took: mean, and the slowest", height: 150, curves: [
    { kind: "faint", of: (point) => (point.attempts ? point.slowest : null) },
    { kind: "curve", bare: true, of: (point) => (point.attempts ? point.took / point.attempts : null) }] });
  charts.at(-1).last = true;
  charts.at(-1).height += BOTTOM - 8;
  const drawn = charts.map((chart) => steps(line, chart));
  const key = element("ul", { class: "key small" });
  if (line.waits.length) key.append(element("li", {}, element("span", { class: "swatch waiting" }), "nothing could start"));
  if (limited || metered) key.append(element("li", {}, element("span", { class: "swatch limiting" }), "limit"));
  if (line.again.length) key.append(element("li", {}, "dotted: a later execution begins"));
  $("charts").replaceChildren(...drawn.map((one) => one.made), key);
  for (const one of drawn) {
    one.made.addEventListener("pointermove", (event) => {
      const box = one.made.getBoundingClientRect();
      const at = one.at(((event.clientX - box.left) * one.width) / box.width);
      const point = line.points.find((p) => at >= p.at && at < p.at + p.seconds);
      if (!point) return;
      for (const other of drawn) {
        for (const end of ["x1", "x2"]) other.here.setAttribute(end, other.x(point.at + point.seconds / 2));
        other.here.setAttribute("visibility", "visible");
      }
      const took = point.attempts ? `, ${tidy(point.took / point.attempts)} s each, the slowest ${tidy(point.slowest)} s` : "";
      const wait = line.waits.find((w) => at >= w.at && at <= w.at + w.seconds);
      const why = wait ? ` Waiting: ${wait.reason || wait.kind}.` : "";
      showTip(event, `after ${clock(point.at)}`, `${tidy(point.texts / point.seconds)} texts a second, ${tidy(perMinute(point.attempts, point))} requests a minute${took}.${why}`);
    });
    one.made.addEventListener("pointerleave", () => {
      hideTip();
      for (const other of drawn) other.here.setAttribute("visibility", "hidden");
    });
  }
}

function drawBars(place, bars, name) {
  if (!place || !bars) return;
  const width = Math.max(240, place.clientWidth), height = 170;
  const most = Math.max(...bars.counts, 1), low = bars.edges[0], high = bars.edges.at(-1);
  const x = (value) => 44 + ((value - low) / (high - low || 1)) * (width - 56);
  const y = (count) => 10 + (1 - count / most) * (height - 52);
  const made = shape("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  made.append(shape("title", {}, `How many rows by ${name}`));
  for (const count of ticks(0, most, 3)) {
    made.append(shape("line", { class: "grid", x1: 44, x2: width - 12, y1: y(count), y2: y(count) }));
    made.append(shape("text", { x: 38, y: y(count) + 4, "text-anchor": "end" }, tidy(count)));
  }
  bars.counts.forEach((count, at) => {
    if (!count) return;
    const left = x(bars.edges[at]), right = x(bars.edges[at + 1]);
    const bar = shape("rect", { class: "column", x: left, width: Math.max(1, right - left - 1), y: y(count), height: y(0) - y(count) });
    bar.append(shape("title", {}, `${tidy(bars.edges[at])} to ${tidy(bars.edges[at + 1])}: ${count} rows`));
    made.append(bar);
  });
  made.append(shape("line", { class: "axis", x1: 44, x2: width - 12, y1: y(0), y2: y(0) }));
  for (const value of ticks(low, high, width < 400 ? 4 : 6)) {
    made.append(shape("text", { x: x(value), y: height - 24, "text-anchor": "middle" }, tidy(value)));
  }
  made.append(shape("text", { x: width - 12, y: height - 6, "text-anchor": "end" }, name));
  made.append(shape("text", { x: 0, y: 9 }, "rows"));
  place.replaceChildren(made);
}

drawings.push(drawCharts, () => drawBars($("lengths"), data.lengths, "characters in the text"), () => drawBars($("norms"), data.norms, "length of the vector"));
