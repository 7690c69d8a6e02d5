"use strict";

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
