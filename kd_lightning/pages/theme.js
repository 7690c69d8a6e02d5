/** Keep the theme that a reader chose; return the one that was kept. */
function keptTheme(theme) {
  try {
    if (theme) localStorage.setItem("theme", theme);
    return localStorage.getItem("theme");
  } catch {
    return null; // a browser may keep nothing for a file
  }
}

function switchTheme() {
  const style = document.documentElement.style;
  const now = style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  style.colorScheme = now === "dark" ? "light" : "dark";
  keptTheme(style.colorScheme);
}

document.documentElement.style.colorScheme = keptTheme() ?? "";
document.getElementById("theme").addEventListener("click", switchTheme);
