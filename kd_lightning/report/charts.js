function drawAccuracy(box) {
  const rows = study.rows.filter((row) => row.accuracy);
  if (!rows.length) return;
  const values = rows.flatMap((row) => [...row.runs, row.accuracy.low ?? row.accuracy.mean, row.accuracy.high ?? row.accuracy.mean, row.reported ?? row.accuracy.mean]);
  const names = rows.map((row) => row.name);
  const { svg, width, x, middle } = lines(box, names, 50, values, "test accuracy (%)");
  rows.forEach((row, index) => {
    const group = mark(svg, x, middle(index) - 4, row.accuracy, row.colour, 6);
    for (const run of row.runs) add(group, "circle", { class: "run", cx: x(run), cy: middle(index) + 14, r: 3 });
    if (row.reported !== null) {
      const [cx, cy] = [x(row.reported), middle(index) - 4];
      add(group, "path", { class: "diamond", d: `M${cx} ${cy - 6}l6 6l-6 6l-6 -6z` });
    }
    const facts = [["mean ± sd", spread(row.accuracy, 2)], ["runs", String(row.runs.length)]];
    if (row.accuracy.low !== null) facts.push(["95 % interval", `${fixed(row.accuracy.low, 2)} to ${fixed(row.accuracy.high, 2)}`]);
    if (row.reported !== null) facts.push(["reported", fixed(row.reported, 2)]);
    hover(add(svg, "rect", { class: "hit", x: 0, y: index * 50, width, height: 50 }), () => [row.name, facts]);
  });
}

/** The paired difference of one row on a scale that all cards share. */
function drawDifference(box, index) {
  const known = study.compared.filter((found) => found.mean !== null);
  const found = study.compared[index];
  if (found.mean === null) return;
  const values = known.flatMap((by) => [by.low, by.high, ...(by.bootstrap ?? []), by.mean].filter((value) => value !== null));
  const [low, high] = range([0, ...values]);
  const { svg, width } = canvas(box, 58, `difference of ${found.name}`);
  const x = scale(low, high, 8, width - 8);
  axisX(svg, x, ticks(low, high, 4), 0, 36, "");
  add(svg, "line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 36 });
  const group = mark(svg, x, 16, found, "var(--verdict)", 6);
  if (found.bootstrap) {
    const [from, to] = found.bootstrap.map(x);
    add(group, "line", { class: "thin", x1: from, x2: to, y1: 28, y2: 28 });
  }
  const facts = [["difference", points(found.mean)]];
  if (found.low !== null) facts.push(["95 % interval", `${points(found.low)} to ${points(found.high)}`]);
  if (found.bootstrap) facts.push(["bootstrap (thin)", found.bootstrap.map(points).join(" to ")]);
  hover(add(svg, "rect", { class: "hit", x: 0, y: 0, width, height: 58 }), () => [found.name, facts]);
}

/** The epochs with finite values; only their later half where the reader chose it. */
function lateHalf(curve) {
  const from = late ? Math.max(...curve.epochs) / 2 : 0;
  const kept = curve.epochs.map((_, place) => place).filter((place) => curve.epochs[place] >= from && curve.mean[place] !== null);
  const pick = (values) => kept.map((place) => values[place]);
  return { row: curve.row, epochs: pick(curve.epochs), mean: pick(curve.mean), std: pick(curve.std) };
}

function drawCurve(box, index) {
  const { percent, rows, title } = study.curves[index];
  const shown = rows.filter((curve) => !hidden.has(curve.row)).map(lateHalf).filter((curve) => curve.epochs.length);
  const { svg, width } = canvas(box, 256, title);
  if (!shown.length) return;
  const [left, bottom, right] = [44, 216, width - 10];
  const edges = shown.flatMap((curve) => curve.mean.flatMap((value, at) => [value - curve.std[at], value + curve.std[at]]));
  const [low, high] = range(edges, 0.03);
  const epochs = shown.flatMap((curve) => curve.epochs);
  const [first, last] = [Math.min(...epochs), Math.max(...epochs)];
  const x = scale(first, Math.max(last, first + 1), left, right);
  const y = scale(low, high, bottom, 8);
  axisY(svg, y, ticks(low, high, 5), left, right);
  axisX(svg, x, ticks(first, Math.max(last, first + 1), width < 420 ? 5 : 8).filter(Number.isInteger), 8, bottom, "epoch");
  for (const curve of shown) {
    const at = curve.epochs.map((epoch, place) => [x(epoch), curve.mean[place], curve.std[place]]);
    const group = add(svg, "g", { style: `--c:${study.rows[curve.row].colour}` });
    const above = at.map(([px, mean, std]) => `${px} ${y(mean + std)}`);
    const below = at.map(([px, mean, std]) => `${px} ${y(mean - std)}`).reverse();
    add(group, "path", { class: "band", d: `M${[...above, ...below].join("L")}z` });
    add(group, "path", { class: "line", d: `M${at.map(([px, mean]) => `${px} ${y(mean)}`).join("L")}` });
    if (at.length === 1) add(group, "circle", { class: "dot", cx: at[0][0], cy: y(at[0][1]), r: 4 });
  }
  const cross = add(svg, "line", { class: "cross", y1: 8, y2: bottom, visibility: "hidden" });
  hover(add(svg, "rect", { class: "hit", x: left, y: 0, width: right - left, height: bottom }), (event) => {
    const px = ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * width;
    const epoch = epochs.reduce((best, value) => (Math.abs(x(value) - px) < Math.abs(x(best) - px) ? value : best));
    cross.setAttribute("x1", x(epoch));
    cross.setAttribute("x2", x(epoch));
    cross.setAttribute("visibility", "visible");
    const facts = shown.flatMap((curve) => {
      const place = curve.epochs.indexOf(epoch);
      if (place < 0) return [];
      const text = spread({ mean: curve.mean[place], std: curve.std[place] }, percent ? 2 : 3);
      return [[study.rows[curve.row].name, text, study.rows[curve.row].colour]];
    });
    return [`epoch ${epoch}`, facts];
  });
  svg.addEventListener("pointerleave", () => cross.setAttribute("visibility", "hidden"));
}

function drawClasses(box) {
  const { names, rows } = study.classes;
  const values = rows.flatMap((row) => row.values.flatMap((found) => (found ? [found.low ?? found.mean, found.high ?? found.mean] : [])));
  const lineHeight = Math.max(32, 14 * rows.length + 8);
  const { svg, width, x, bottom, middle } = lines(box, names, lineHeight, [0, ...values], "difference (points)");
  add(svg, "line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: bottom });
  names.forEach((name, index) => {
    const facts = [];
    rows.forEach((row, place) => {
      const [found, { colour, name: rowName }] = [row.values[index], study.rows[row.row]];
      if (!found) return;
      mark(svg, x, middle(index) + 14 * (place - (rows.length - 1) / 2), found, colour, 4);
      facts.push([rowName, points(found.mean) + (found.low === null ? "" : ` (${points(found.low)} to ${points(found.high)})`), colour]);
    });
    hover(add(svg, "rect", { class: "hit", x: 0, y: index * lineHeight, width, height: lineHeight }), () => [name, facts]);
  });
}

function drawConfusion(box, index) {
  const { row, counts } = study.confusion[index];
  const names = study.classNames;
  const many = names.length > 30;
  const room = many ? 8 : Math.min(88, 10 + 6.6 * Math.max(...names.map((name) => name.length)));
  const width = canvas(box, 1, "").width;
  const side = Math.min(width - room, 460);
  const { svg } = canvas(box, side + room, `confusion matrix of ${study.rows[row].name}`);
  const cell = side / names.length;
  const shares = counts.map((line) => line.map((count) => count / Math.max(1, line.reduce((sum, value) => sum + value, 0))));
  for (let level = 1; level <= 10; level++) {
    let path = "";
    shares.forEach((line, y) => line.forEach((share, x) => {
      if (Math.ceil(share * 10) === level) path += `M${room + x * cell} ${y * cell}h${cell - 0.5}v${cell - 0.5}h${0.5 - cell}z`;
    }));
    if (path) add(svg, "path", { class: "cells", d: path, opacity: 0.06 + 0.07 * level });
  }
  names.forEach((name, at) => {
    if (many) return;
    const middle = (at + 0.5) * cell + 4;
    add(svg, "text", { x: room - 6, y: middle, "text-anchor": "end" }, shorten(name, room));
    const place = { x: room + middle, y: side + 8, "text-anchor": "end", transform: `rotate(-90 ${room + middle} ${side + 8})` };
    add(svg, "text", place, shorten(name, room));
    if (cell >= 22) shares[at].forEach((share, x) => {
      if (share >= 0.005) add(svg, "text", { class: "count", x: room + (x + 0.5) * cell, y: middle }, Math.round(100 * share));
    });
  });
  hover(add(svg, "rect", { class: "hit", x: room, y: 0, width: side, height: side }), (event) => {
    const from = svg.getBoundingClientRect();
    const within = (place) => Math.max(0, Math.min(names.length - 1, Math.floor(place / cell)));
    const [x, y] = [within(event.clientX - from.left - room), within(event.clientY - from.top)];
    const all = counts[y].reduce((sum, value) => sum + value, 0);
    return [`${names[y]} taken for ${names[x]}`, [[`${counts[y][x]} of ${all}`, `${fixed(100 * shares[y][x], 1)} %`]]];
  });
}

function drawCost(box, index) {
  const { title, places } = study.costs[index];
  const { svg, width } = canvas(box, 290, title);
  const [left, bottom, right] = [44, 244, width - 14];
  const costs = places.map((place) => place.cost);
  const [cheap, dear] = [Math.min(...costs) / 1.5, Math.max(...costs) * 1.5];
  const accuracies = places.map(({ row }) => study.rows[row].accuracy);
  const [low, high] = range(accuracies.flatMap(({ mean, std }) => [mean - (std ?? 0), mean + (std ?? 0)]), 0.08);
  const x = scale(cheap, dear, left, right, true);
  const y = scale(low, high, bottom, 8);
  axisY(svg, y, ticks(low, high, 5), left, right);
  axisX(svg, x, logTicks(cheap, dear), 8, bottom, title);
  for (const { row, cost } of places) {
    const { name, colour, accuracy } = study.rows[row];
    const group = add(svg, "g", { style: `--c:${colour}` });
    const [from, to] = [accuracy.mean - (accuracy.std ?? 0), accuracy.mean + (accuracy.std ?? 0)];
    add(group, "line", { class: "bar", x1: x(cost), x2: x(cost), y1: y(from), y2: y(to) });
    add(group, "circle", { class: "dot", cx: x(cost), cy: y(accuracy.mean), r: 6 });
    const facts = [["test accuracy (%)", spread(accuracy, 2)], [title, String(Number(cost.toPrecision(4)))]];
    hover(add(group, "circle", { class: "hit", cx: x(cost), cy: y(accuracy.mean), r: 16 }), () => [name, facts]);
  }
  nameDots(svg, places.map(({ row, cost }) => [study.rows[row].name, x(cost), y(study.rows[row].accuracy.mean)]), left, right, bottom);
}

/** Write names beside dots, on the side with more room, and none over another. */
function nameDots(svg, dots, left, right, bottom) {
  for (const leftwards of [false, true]) {
    let free = 14;
    const here = dots.filter(([, x]) => x > (left + right) / 2 === leftwards).sort((one, other) => one[2] - other[2]);
    for (const [at, [name, x, y]] of here.entries()) {
      free = Math.min(Math.max(free, y + 4), bottom - 14 * (here.length - at - 1));
      const place = { class: "name", x: x + (leftwards ? -12 : 12), y: free, "text-anchor": leftwards ? "end" : "start" };
      add(svg, "text", place, shorten(name, leftwards ? x - left - 12 : right - x - 12));
      free += 14;
    }
  }
}
