"use strict";
// Search and filter of one list: every word must occur in an entry's text, every chosen value must be one of its own.
for (const tools of document.querySelectorAll(".tools")) {
  const entries = [...document.querySelectorAll(tools.dataset.list)];
  const search = tools.querySelector("input");
  const selects = [...tools.querySelectorAll("select")];
  const count = tools.querySelector("output");
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const fits = words.every((word) => entry.dataset.text.includes(word)) &&
        selects.every((select) => !select.value || entry.dataset[select.name].split("|").includes(select.value));
      entry.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${entries.length}`;
  };
  tools.addEventListener("input", update);
  update();
}
