"use strict";
(() => {
  const list = document.getElementById("list");
  if (!list) return;
  const rows = Array.from(list.children);
  const control = (name) => document.getElementById(name);
  const number = (row, name) => (row.dataset[name] === "" ? -Infinity : Number(row.dataset[name]));

  function show() {
    const wanted = { run: control("run").value, verdict: control("verdict").value, kind: control("kind").value };
    const words = control("words").value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = Object.entries(wanted).every(([name, value]) => !value || row.dataset[name] === value)
        && (!words || row.textContent.toLowerCase().includes(words));
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    control("shown").textContent = String(shown);
    control("nothing").hidden = shown > 0;
  }

  function sort() {
    const [name, way] = control("sort").value.split("-");
    const sign = way === "down" ? -1 : 1;
    const place = (row) => number(row, "place");
    rows.sort((a, b) => sign * (number(a, name) - number(b, name)) || place(a) - place(b));
    list.replaceChildren(...rows);
  }

  for (const name of ["run", "verdict", "kind"]) control(name).addEventListener("change", show);
  control("words").addEventListener("input", show);
  control("sort").addEventListener("change", sort);
  control("controls").addEventListener("submit", (event) => event.preventDefault());
})();
