"use strict";

/** Sort by a column: numbers by the first one that a cell shows, words by alphabet, missing values last. */
function sortBy(table, column, descending) {
  const value = (line) => line.cells[column].textContent;
  const number = (text) => Number.parseFloat(text.replaceAll(",", "").replace("<", "").replace("\u2212", "-"));
  const missing = (line) => /^(\u2013|(nan|inf)( .*)?)$/.test(value(line));
  const numbers = [...table.tBodies[0].rows].every((line) => missing(line) || /^[<+\u2212]?\d/.test(value(line)));
  const compare = numbers ? (a, b) => number(a) - number(b) : (a, b) => a.localeCompare(b);
  const lines = [...table.tBodies[0].rows].sort((a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return descending ? compare(value(b), value(a)) : compare(value(a), value(b));
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

for (const button of document.querySelectorAll(".copy button")) {
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(button.nextElementSibling);
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C"; // works in a file, too
  });
}
