"use strict";
const list = document.getElementById("samples");
const all = [...list.children];
const [find, show, sort, count] = ["find", "show", "sort", "count"].map((id) => document.getElementById(id));
const number = (sample, name) => Number(sample.dataset[name] || "-Infinity");
function arrange() {
  const wanted = find.value.trim().toLocaleLowerCase();
  let shown = 0;
  for (const sample of all) {
    const kind = show.value === "all" || sample.dataset.kinds.split(" ").includes(show.value);
    const said = !wanted || sample.textContent.toLocaleLowerCase().includes(wanted);
    sample.hidden = !(kind && said);
    shown += sample.hidden ? 0 : 1;
  }
  const [name, order] = sort.value.split(" ");
  const sign = order === "down" ? -1 : 1;
  const sorted = [...all].sort((a, b) => {
    const [one, other] = [number(a, name), number(b, name)];
    return one === other ? number(a, "index") - number(b, "index") : sign * (one < other ? -1 : 1);
  });
  list.append(...sorted);
  count.textContent = shown + " of " + all.length;
}
for (const control of [find, show, sort]) control.addEventListener("input", arrange);
document.getElementById("tools").hidden = false;
arrange();
