// The heat map: the cosine of every pair of some rows, like by like.

const heat = { canvas: $("matrix"), rows: shorts(data.heat.rows), picture: null, here: null, kept: false };
heat.count = heat.rows.length;
{
  const upper = bytes(data.heat.shades);
  heat.shades = new Uint8Array(heat.count * heat.count).fill(255);
  let at = 0;
  for (let row = 0; row < heat.count; row++) {
    for (let column = row + 1; column < heat.count; column++) {
      heat.shades[row * heat.count + column] = heat.shades[column * heat.count + row] = upper[at++];
    }
  }
}
const EDGE = 10;
const clusterOf = (place) => data.colours[0].codes[heat.rows[place]];

function paintHeat() {
  const image = new ImageData(heat.count, heat.count);
  const table = Array.from({ length: 256 }, (_, shade) => between("s", shade / 255));
  heat.shades.forEach((shade, at) => image.data.set([...table[shade], 255], at * 4));
  heat.picture = document.createElement("canvas");
  heat.picture.width = heat.picture.height = heat.count;
  heat.picture.getContext("2d").putImageData(image, 0, 0);
}

function drawHeat() {
  if (!heat.count) return;
  heat.canvas.style.height = `${Math.min(heat.canvas.clientWidth, 640)}px`;
  heat.canvas.style.maxWidth = "640px";
  paintHeat();
  frameHeat();
  $("shades").replaceChildren(element("span", { class: "quiet" }, "cosine"), ...ramp("s", data.heat.low.toFixed(2), data.heat.high.toFixed(2)), element("span", { class: "quiet small" }, "the diagonal is each row with itself"));
}

function frameHeat() {
  const { pen, width, height } = sharp(heat.canvas);
  const cell = (Math.min(width, height) - EDGE) / heat.count;
  pen.imageSmoothingEnabled = false;
  pen.clearRect(0, 0, width, height);
  pen.drawImage(heat.picture, EDGE, EDGE, cell * heat.count, cell * heat.count);
  for (let start = 0, at = 1; at <= heat.count; at++) {
    if (at < heat.count && clusterOf(at) === clusterOf(start)) continue;
    pen.fillStyle = colour(`c${clusterOf(start)}`);
    pen.fillRect(EDGE + start * cell, 0, (at - start) * cell, EDGE - 3);
    pen.fillRect(0, EDGE + start * cell, EDGE - 3, (at - start) * cell);
    start = at;
  }
  if (heat.here) {
    const [row, column] = heat.here;
    pen.strokeStyle = colour("ring");
    pen.lineWidth = 1.5;
    pen.strokeRect(EDGE + column * cell - 1.5, EDGE + row * cell - 1.5, cell + 3, cell + 3);
  }
}

function cellAt(event) {
  const box = heat.canvas.getBoundingClientRect();
  const cell = (Math.min(box.width, box.height) - EDGE) / heat.count;
  const found = [event.clientY - box.top, event.clientX - box.left].map((place) => Math.floor((place - EDGE) / cell));
  return found.every((place) => place >= 0 && place < heat.count) ? found : null;
}

function scoreOf(row, column) {
  const share = heat.shades[row * heat.count + column] / 255;
  return row === column ? 1 : data.heat.low + share * (data.heat.high - data.heat.low);
}

function showCell(cell) {
  heat.here = cell;
  frameHeat();
  if (!cell) return;
  const [row, column] = cell.map((place) => heat.rows[place]);
  const told = row === column ? "one row with itself" : scoreOf(...cell).toFixed(2);
  const side = (one) => element("div", {}, element("h4", {}, corpusText(idOf(one), "bdi", "")), corpusText(short(textOf(one), 400)),
    element("p", { class: "quiet small" }, data.colours[0].values[data.colours[0].codes[one]]));
  $("cell").replaceChildren(element("p", { class: "score" }, told), side(row), ...(row === column ? [] : [side(column)]));
  heat.canvas.setAttribute("aria-label", `Heat map. ${idOf(row)} and ${idOf(column)}: ${told}`);
}

function startHeat() {
  heat.canvas.addEventListener("pointermove", (event) => { if (!heat.kept) showCell(cellAt(event)); });
  heat.canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    heat.kept = !(heat.kept && cell && heat.here && String(cell) === String(heat.here)) && cell !== null;
    showCell(cell);
  });
  heat.canvas.addEventListener("pointerleave", () => { if (!heat.kept) { heat.here = null; frameHeat(); } });
  heat.canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (move) {
      const from = heat.here || [0, 0];
      showCell(from.map((place, axis) => Math.min(heat.count - 1, Math.max(0, place + (heat.here ? move[axis] : 0)))));
      heat.kept = true;
    } else if (event.key === "Escape") { heat.kept = false; heat.here = null; frameHeat(); } else return;
    event.preventDefault();
  });
}

drawings.push(drawHeat);
