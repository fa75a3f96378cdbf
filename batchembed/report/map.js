// The map: every row a point, with what is searched, pointed at and chosen.

const map = {
  canvas: $("plane"), by: data.colours[data.first], only: null, hits: null, here: -1, chosen: -1,
  zoom: 1, x: 0.5, y: 0.5, moved: false, from: null,
};
const NEAR_ENOUGH = 14;
const COLOURED = 7;

function shadeOf(row) {
  const code = map.by.codes[row];
  if (code === 255) return colour("rest");
  if (!map.by.values) return `rgb(${between("p", code / 253)})`;
  return code < COLOURED ? colour(`c${code}`) : colour("rest");
}

// Where a row stands, in CSS pixels: both axes at one scale.
function placing() {
  const { width, height } = map.canvas.getBoundingClientRect();
  const size = (Math.min(width, height) - 44) * map.zoom;
  return (row) => [width / 2 + (rows.x[row] - map.x) * size, height / 2 + (rows.y[row] - map.y) * size];
}

const isLit = (row) => (map.hits === null || map.hits.has(row)) && (map.only === null || group(row) === map.only);
const group = (row) => { const code = map.by.codes[row]; return code === 255 || !map.by.values ? code : Math.min(code, COLOURED); };

function drawMap() {
  const { pen, width, height } = sharp(map.canvas);
  const place = placing();
  const base = rows.count < 500 ? 4.5 : rows.count < 2000 ? 3.4 : 2.4;
  const size = base * Math.min(1.8, map.zoom ** 0.35);
  pen.clearRect(0, 0, width, height);
  const dot = (row, radius) => {
    const [x, y] = place(row);
    if (x < -9 || y < -9 || x > width + 9 || y > height + 9) return;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
  };
  for (const lit of [false, true]) {
    pen.globalAlpha = lit ? 0.85 : 0.13;
    for (let row = 0; row < rows.count; row++) {
      if (isLit(row) !== lit) continue;
      pen.fillStyle = shadeOf(row);
      dot(row, lit && map.hits !== null ? size * 1.25 : size);
    }
  }
  pen.globalAlpha = 1;
  if (map.chosen >= 0) {
    const [x, y] = place(map.chosen);
    pen.strokeStyle = colour("soft");
    for (const near of nearOf(map.chosen)) {
      const [a, b] = place(near.row);
      pen.lineWidth = 1;
      pen.beginPath(); pen.moveTo(x, y); pen.lineTo(a, b); pen.stroke();
      pen.fillStyle = shadeOf(near.row);
      dot(near.row, size * 1.4);
    }
    ring(pen, [x, y], size + 5, 2.5);
  }
  if (map.here >= 0) ring(pen, place(map.here), size + 3, 1.5);
  if (map.zoom === 1) axes(pen, width, height);
}

function ring(pen, [x, y], radius, width) {
  pen.strokeStyle = colour("ring");
  pen.lineWidth = width;
  pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.stroke();
}

function axes(pen, width, height) {
  if (data.method !== "pca" || !data.shares) return;
  const [first, second] = data.shares.map((share) => `${tidy(100 * share)} % of the variance`);
  pen.fillStyle = colour("soft");
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.fillText(`first component, ${first} →`, width - 10, height - 10);
  pen.save();
  pen.translate(16, 10);
  pen.rotate(-Math.PI / 2);
  pen.fillText(`second, ${second} →`, 0, 0);
  pen.restore();
}

function nearOf(row) {
  return Array.from({ length: data.each }, (_, at) => ({ row: rows.near[row * data.each + at], score: rows.scores[row * data.each + at] / 10000 }));
}

function rowAt(event) {
  const box = map.canvas.getBoundingClientRect();
  const place = placing();
  let best = -1, least = NEAR_ENOUGH ** 2;
  for (let row = 0; row < rows.count; row++) {
    const [x, y] = place(row);
    const far = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
    if (far < least - 1e-9 && (isLit(row) || far < least / 4)) { best = row; least = far; }
  }
  return best;
}

function valueOf(one, row) {
  const code = one.codes[row];
  if (code === 255) return "none";
  if (one.values) return one.values[code] ?? "another";
  return null;
}

function rowButton(row, told) {
  return element("li", {}, element("button", { type: "button", on: { click: () => choose(row) } },
    element("span", {}, told), corpusText(short(textOf(row), 140), "span", "")));
}

function choose(row) {
  map.chosen = map.here = row;
  const [x, y] = placing()(row);
  const box = map.canvas.getBoundingClientRect();
  if (x < 0 || y < 0 || x > box.width || y > box.height) { map.x = rows.x[row]; map.y = rows.y[row]; }
  showChosen();
  drawMap();
}

function showChosen() {
  const row = map.chosen;
  if (row < 0) { showHits(); return; }
  const values = element("dl", { class: "values" });
  for (const one of data.colours) {
    const value = valueOf(one, row);
    if (value !== null) values.append(element("dt", {}, one.name), corpusText(value, "dd", ""));
  }
  const number = `row ${(rows.number ? rows.number[row] : row).toLocaleString("en")}`;
  const title = element("h3", {}, corpusText(idOf(row), "bdi", ""), element("span", { class: "quiet small" }, number));
  const back = map.hits === null ? "Let go" : "Back to what was found";
  $("chosen").replaceChildren(title, data.texts ? corpusText(textOf(row)) : "", values,
    element("h4", {}, "Nearest rows, by cosine"),
    element("ol", { class: "rows" }, ...nearOf(row).map((near) => rowButton(near.row, near.score.toFixed(3)))),
    element("button", { type: "button", on: { click: letGo } }, back));
}

function letGo() {
  map.chosen = map.here = -1;
  showHits();
  drawMap();
}

let folded = null;
function search(words) {
  const asked = words.trim().toLocaleLowerCase();
  folded ??= Array.from({ length: rows.count }, (_, row) => `${idOf(row)}\n${textOf(row)}`.toLocaleLowerCase());
  map.hits = asked ? new Set([...folded.keys()].filter((row) => folded[row].includes(asked))) : null;
  map.chosen = map.here = -1;
  showHits();
  drawMap();
}

function showHits() {
  if (map.hits === null) {
    $("chosen").replaceChildren(element("p", { class: "quiet" }, "Click a point, or choose one by key or search, to see its text and the rows nearest to it."));
    return;
  }
  const found = [...map.hits];
  const told = `${found.length.toLocaleString("en")} of ${rows.count.toLocaleString("en")} rows`;
  const more = found.length > 40 ? element("p", { class: "quiet small" }, "The first 40 are listed.") : null;
  $("chosen").replaceChildren(...[element("h3", {}, told), more,
    element("ol", { class: "rows" }, ...found.slice(0, 40).map((row) => rowButton(row, short(idOf(row), 9))))].filter(Boolean));
}

function drawLegend() {
  const one = map.by;
  if (!one.values) { $("legend").replaceChildren(...ramp("p", one.low, one.high)); return; }
  const groups = new Map();
  for (let row = 0; row < rows.count; row++) groups.set(group(row), (groups.get(group(row)) || 0) + 1);
  const keys = [...groups.keys()].sort((a, b) => a - b);
  $("legend").replaceChildren(...keys.map((key) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = key < COLOURED ? colour(`c${key}`) : colour("rest");
    const name = key === 255 ? "none" : key < COLOURED ? one.values[key] : "others";
    const press = () => { map.only = map.only === key ? null : key; drawLegend(); drawMap(); };
    return element("button", { type: "button", "aria-pressed": String(map.only === key), on: { click: press } },
      swatch, corpusText(`${name} (${groups.get(key).toLocaleString("en")})`, "bdi", ""));
  }));
}

function zoomBy(factor) {
  map.zoom = Math.min(40, Math.max(1, map.zoom * factor));
  if (map.zoom === 1) { map.x = map.y = 0.5; }
  else if (map.chosen >= 0 && factor > 1) { map.x = rows.x[map.chosen]; map.y = rows.y[map.chosen]; }
  map.canvas.style.touchAction = map.zoom > 1 ? "none" : "pan-y";
  drawMap();
}

// The nearest row in a direction: within 45 degrees of it, by distance.
function step(dx, dy) {
  const from = map.here >= 0 ? map.here : map.chosen;
  const [x, y] = from >= 0 ? [rows.x[from], rows.y[from]] : [map.x, map.y];
  let best = -1, least = Infinity;
  for (let row = 0; row < rows.count; row++) {
    if (row === from || !isLit(row)) continue;
    const along = (rows.x[row] - x) * dx + (rows.y[row] - y) * dy;
    const aside = Math.abs((rows.x[row] - x) * dy + (rows.y[row] - y) * dx);
    const far = along + aside;
    if ((from < 0 || (along > 1e-6 && aside <= along)) && Math.abs(far) + aside < least) { best = row; least = Math.abs(far) + aside; }
  }
  if (best >= 0) { map.here = best; drawMap(); tellHere(); }
}

function tellHere() {
  const box = map.canvas.getBoundingClientRect();
  const [x, y] = placing()(map.here);
  showTip({ clientX: box.left + x, clientY: box.top + y }, idOf(map.here), short(textOf(map.here), 220));
  map.canvas.setAttribute("aria-label", `Map. ${idOf(map.here)}: ${short(textOf(map.here), 220)}`);
}

function chooseHere() {
  hideTip();
  if (map.here >= 0) choose(map.here);
}

const KEYS = {
  ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
  Enter: chooseHere, " ": chooseHere,
  Escape: () => { hideTip(); letGo(); }, "+": () => zoomBy(1.6), "=": () => zoomBy(1.6), "-": () => zoomBy(1 / 1.6), 0: () => zoomBy(0),
};

function startMap() {
  map.canvas.setAttribute("aria-label", `Map of ${rows.count} rows. Arrow keys go from row to row.`);
  $("colour").replaceChildren(...data.colours.map((one, at) => element("option", { value: at }, one.name)));
  $("colour").value = data.first;
  $("colour").addEventListener("change", () => { map.by = data.colours[$("colour").value]; map.only = null; drawLegend(); drawMap(); });
  $("search").addEventListener("input", () => search($("search").value));
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && map.hits && map.hits.size) choose([...map.hits][0]);
  });
  $("closer").addEventListener("click", () => zoomBy(1.6));
  $("farther").addEventListener("click", () => zoomBy(1 / 1.6));
  $("whole").addEventListener("click", () => zoomBy(0));
  map.canvas.addEventListener("keydown", (event) => {
    if (KEYS[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); KEYS[event.key](); }
  });
  map.canvas.addEventListener("blur", hideTip);
  map.canvas.addEventListener("pointerdown", (event) => { map.from = [event.clientX, event.clientY, map.x, map.y]; map.moved = false; });
  map.canvas.addEventListener("pointerup", () => { map.from = null; });
  map.canvas.addEventListener("pointermove", (event) => {
    if (map.from && map.zoom > 1 && event.buttons) {
      const { width, height } = map.canvas.getBoundingClientRect();
      const size = (Math.min(width, height) - 44) * map.zoom;
      const [dx, dy] = [event.clientX - map.from[0], event.clientY - map.from[1]];
      if (Math.hypot(dx, dy) > 4) { map.moved = true; map.x = map.from[2] - dx / size; map.y = map.from[3] - dy / size; hideTip(); drawMap(); }
      return;
    }
    if (event.pointerType === "touch") return; // a tap chooses
    const row = rowAt(event);
    if (row !== map.here) { map.here = row; drawMap(); }
    if (row >= 0) showTip(event, idOf(row), short(textOf(row), 260)); else hideTip();
  });
  map.canvas.addEventListener("pointerleave", () => { hideTip(); map.here = -1; drawMap(); });
  map.canvas.addEventListener("click", (event) => {
    if (map.moved) return;
    const row = rowAt(event);
    hideTip();
    if (row >= 0) choose(row); else letGo();
  });
  showHits();
}

drawings.push(drawMap, drawLegend);
