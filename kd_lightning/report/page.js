const CHARTS = {
  accuracy: drawAccuracy,
  difference: drawDifference,
  curve: drawCurve,
  classes: drawClasses,
  confusion: drawConfusion,
  cost: drawCost,
};

function draw(box) {
  const [kind, index] = box.dataset.chart.split(" ");
  CHARTS[kind](box, Number(index));
  box.querySelector("svg")?.addEventListener("pointerleave", () => { tip.hidden = true; });
}

const boxes = [...document.querySelectorAll("[data-chart]")];
const widths = new Map();
const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (widths.get(target) === target.clientWidth) continue;
    widths.set(target, target.clientWidth);
    draw(target);
  }
});
boxes.forEach((box) => watch.observe(box));
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    if (button.id === "late") late = pressed;
    else if (pressed) hidden.delete(Number(button.dataset.row));
    else hidden.add(Number(button.dataset.row));
    boxes.filter((box) => box.dataset.chart.startsWith("curve")).forEach(draw);
  });
}

/** Sort by a column: numbers by value, words by alphabet, missing values last. */
function sortBy(table, column, descending) {
  const value = (line) => line.cells[column].dataset.value;
  const numbers = [...table.tBodies[0].rows].every((line) => value(line) === "" || Number.isFinite(Number(value(line))));
  const compare = numbers ? (a, b) => Number(a) - Number(b) : (a, b) => a.localeCompare(b);
  const lines = [...table.tBodies[0].rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...lines);
}

for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sortBy(head.closest("table"), head.cellIndex, descending);
  });
}
