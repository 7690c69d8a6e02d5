"use strict";

const SVG = "http://www.w3.org/2000/svg";
const study = JSON.parse(document.getElementById("study").textContent);
const tip = document.getElementById("tip");
const hidden = new Set(); // rows that the legend switched off
let late = false; // whether curves show only the later half of the epochs

const fixed = (value, digits) => value.toFixed(digits).replace("-", "−");
const points = (value) => (value < 0 ? "" : "+") + fixed(value, 2);
const spread = (found, digits) => fixed(found.mean, digits) + (found.std ? " ± " + fixed(found.std, digits) : "");

function add(parent, name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== "") node.textContent = text;
  return parent.appendChild(node);
}

function canvas(box, height, label) {
  box.querySelector("svg")?.remove();
  const style = getComputedStyle(box);
  const width = Math.max(200, box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
  const svg = add(box, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  return { svg, width, height };
}

function scale(low, high, from, to, log = false) {
  const place = log ? Math.log10 : (value) => value;
  const span = place(high) - place(low) || 1;
  return (value) => from + ((place(value) - place(low)) / span) * (to - from);
}

/** The range of values with some air; a single value gets a range around it. */
function range(values, air = 0.06) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = (high - low) * air || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high; index++) found.push(Number((index * step).toPrecision(10)));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of [1, 2, 5]) found.push(Number((factor * 10 ** power).toPrecision(3)));
  return found.filter((value) => value >= low && value <= high);
}

function shorten(name, width) {
  const characters = Math.max(3, Math.floor(width / 7));
  return name.length > characters ? name.slice(0, characters - 1) + "…" : name;
}

function axisX(svg, x, values, top, bottom, title) {
  for (const value of values) {
    add(svg, "line", { class: "rule", x1: x(value), x2: x(value), y1: top, y2: bottom });
    add(svg, "text", { x: x(value), y: bottom + 16, "text-anchor": "middle" }, String(value).replace("-", "−"));
  }
  const width = svg.viewBox.baseVal.width;
  if (title) add(svg, "text", { x: width, y: bottom + 34, "text-anchor": "end" }, title);
}

function axisY(svg, y, values, left, right) {
  for (const value of values) {
    add(svg, "line", { class: "rule", x1: left, x2: right, y1: y(value), y2: y(value) });
    add(svg, "text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value).replace("-", "−"));
  }
}

function mark(svg, x, y, found, colour, size = 5) {
  const group = add(svg, "g", { style: `--c:${colour}` });
  if (found.low !== null) add(group, "line", { class: "bar", x1: x(found.low), x2: x(found.high), y1: y, y2: y });
  add(group, "circle", { class: "dot", cx: x(found.mean), cy: y, r: size });
  return group;
}

function showTip(event, title, lines) {
  tip.replaceChildren();
  tip.append(Object.assign(document.createElement("strong"), { textContent: title }));
  for (const [name, value, colour] of lines) {
    const line = tip.appendChild(document.createElement("div"));
    if (colour) line.classList.add("keyed");
    if (colour) line.style.setProperty("--c", colour);
    for (const text of [name, value]) line.append(Object.assign(document.createElement("span"), { textContent: text }));
  }
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - width - 16 : event.clientX + 16;
  tip.style.left = `${Math.max(4, Math.min(left, innerWidth - width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 16, innerHeight - height - 4))}px`;
}

function hover(node, describe) {
  const show = (event) => showTip(event, ...describe(event));
  node.addEventListener("pointermove", show);
  node.addEventListener("pointerdown", show);
}

/** One horizontal line a name, with names on the left; returns where to draw. */
function lines(box, names, lineHeight, values, title, air) {
  const room = canvas(box, names.length * lineHeight + 46, title);
  const left = Math.min(room.width * 0.36, 16 + 7.6 * Math.max(...names.map((name) => name.length)));
  const [low, high] = range(values, air);
  const x = scale(low, high, left, room.width - 8);
  const bottom = names.length * lineHeight;
  axisX(room.svg, x, ticks(low, high, room.width < 500 ? 4 : 8), 0, bottom, title);
  names.forEach((name, index) => {
    const text = add(room.svg, "text", { class: "name", x: 0, y: (index + 0.5) * lineHeight + 4 }, shorten(name, left - 10));
    add(text, "title", {}, name);
    add(room.svg, "line", { class: "rule", x1: 0, x2: room.width, y1: (index + 1) * lineHeight, y2: (index + 1) * lineHeight });
  });
  return { ...room, x, bottom, middle: (index) => (index + 0.5) * lineHeight };
}
