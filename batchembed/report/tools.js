"use strict";
// What all drawings share. Texts of the corpus reach the page as text nodes only.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

function bytes(told) {
  const raw = atob(told);
  const found = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) found[at] = raw.charCodeAt(at);
  return found;
}
const shorts = (told) => new Uint16Array(bytes(told).buffer);
const signed = (told) => new Int16Array(bytes(told).buffer);

const rows = {
  count: data.rows,
  x: new Float64Array(data.rows),
  y: new Float64Array(data.rows),
  near: shorts(data.near),
  scores: signed(data.scores),
  number: data.numbers ? new Uint32Array(bytes(data.numbers).buffer) : null, // none: as they stand
};
shorts(data.places).forEach((place, at) => {
  (at % 2 ? rows.y : rows.x)[at >> 1] = at % 2 ? 1 - place / 65535 : place / 65535;
});
for (const one of data.colours) one.codes = bytes(one.codes);

const idOf = (row) => data.ids[row];
const textOf = (row) => (data.texts ? data.texts[row] : data.ids[row]);

function element(name, told = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(told)) {
    if (key === "on") for (const [event, heard] of Object.entries(value)) made.addEventListener(event, heard);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function shape(name, told = {}, words = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(told)) made.setAttribute(key, value);
  if (words !== null) made.textContent = words;
  return made;
}

// A text of the corpus: its own direction, whatever it holds.
const corpusText = (words, name = "p", kind = "text") => element(name, { class: kind, dir: "auto" }, words);

let shades = {};
function colour(name) {
  if (!(name in shades)) shades[name] = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  return shades[name];
}

function parts(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// A colour between the five stops `${kind}0` … `${kind}4`; share goes from 0 to 1.
function between(kind, share) {
  const at = Math.min(3.9999, Math.max(0, share * 4));
  const low = parts(colour(kind + Math.floor(at)));
  const high = parts(colour(kind + (Math.floor(at) + 1)));
  return low.map((value, part) => Math.round(value + (high[part] - value) * (at % 1)));
}

function ramp(kind, low, high) {
  const width = 40;
  const bar = shape("svg", { viewBox: `0 0 ${width} 1`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let at = 0; at < width; at++) {
    bar.append(shape("rect", { x: at, width: 1.05, height: 1, fill: `rgb(${between(kind, at / (width - 1))})` }));
  }
  return [element("span", {}, low), bar, element("span", {}, high)];
}

// Make a canvas as sharp as the screen; returns its context in CSS pixels, with width and height.
function sharp(canvas) {
  const scale = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  return { pen, width, height };
}

const tip = $("tip");
function showTip(event, title, words) {
  tip.replaceChildren(corpusText(title, "b", ""), corpusText(words, "span", ""));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
  const top = event.clientY + 14 + box.height > innerHeight ? event.clientY - 14 - box.height : event.clientY + 14;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
const hideTip = () => { tip.hidden = true; };

const short = (words, letters) => {
  const told = words.replace(/\s+/g, " ").trim();
  const all = Array.from(told.slice(0, letters * 2));
  return all.length > letters ? all.slice(0, letters - 1).join("") + "…" : all.join("");
};

const drawings = [];
function redraw() {
  shades = {};
  for (const draw of drawings) draw();
}
