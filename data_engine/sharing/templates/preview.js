"use strict";
// Search, filter and pages of one list: every word must occur in an entry's text, every chosen value must be one of its
// own. Of what fits one page is shown, so that the page stays short and its links land where they point to.
const lists = [];
for (const tools of document.querySelectorAll(".tools")) {
  const entries = [...document.querySelectorAll(tools.dataset.list)];
  const length = Number(tools.dataset.page);
  const search = tools.querySelector("input");
  const selects = [...tools.querySelectorAll("select")];
  const count = tools.querySelector("output");
  const pager = document.createElement("div");
  const [back, on] = ["Earlier", "Later"].map((words) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    return button;
  });
  const place = document.createElement("span");
  pager.className = "pager";
  place.className = "note";
  pager.append(back, on, place);
  if (entries.length) (entries.at(-1).closest(".rows") ?? entries.at(-1)).after(pager);
  let page = 0;
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = entries.filter((entry) =>
      words.every((word) => entry.dataset.text.includes(word)) &&
      selects.every((select) => !select.value || entry.dataset[select.name].split("|").includes(select.value)));
    const last = Math.max(0, Math.ceil(fitting.length / length) - 1);
    page = Math.min(page, last);
    const shown = new Set(fitting.slice(page * length, (page + 1) * length));
    for (const entry of entries) entry.hidden = !shown.has(entry);
    count.textContent = `${fitting.length} of ${entries.length}`;
    place.textContent = `${page * length + 1} to ${page * length + shown.size} of ${fitting.length}`;
    pager.hidden = last === 0;
    back.disabled = page === 0;
    on.disabled = page === last;
  };
  const turn = (by) => {
    page += by;
    update();
    tools.scrollIntoView();
  };
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  tools.addEventListener("input", () => {
    page = 0;
    update();
  });
  update();
  lists.push({ tools, turn: (by) => (by < 0 ? back : on).disabled || turn(by) });
}

// A picture opens large by a click, Enter or the space bar; Escape or a click closes it. The arrow keys turn the pages
// of the list that is in sight.
const large = document.createElement("dialog");
large.append(new Image());
document.body.append(large);
const enlarge = (picture) => {
  large.firstChild.src = picture.src;
  large.firstChild.alt = picture.alt;
  large.showModal();
};
large.addEventListener("click", () => large.close());
for (const picture of document.querySelectorAll("figure img")) {
  picture.tabIndex = 0;
  picture.setAttribute("role", "button");
  picture.setAttribute("aria-label", `${picture.alt}, enlarge`);
  picture.addEventListener("click", () => enlarge(picture));
}
document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (large.open || event.ctrlKey || event.altKey || event.metaKey) return;
  if (at.matches?.("figure img") && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    enlarge(at);
  } else if (!at.matches?.("input, select") && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const begun = lists.filter(({ tools }) => tools.getBoundingClientRect().top < innerHeight / 2);
    (begun.at(-1) ?? lists[0])?.turn(event.key === "ArrowLeft" ? -1 : 1);
  }
});
