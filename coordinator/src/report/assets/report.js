"use strict";
const { rules, values, documents } = JSON.parse(document.getElementById("data").textContent);
const rows = [...document.querySelectorAll("#thresholds tbody tr")];
const inputs = rows.map((row) => row.querySelector("input"));
// Figures of a sample are scaled up to all documents.
const scale = documents / values.length;
const shown = (count) => Math.round(count * scale).toLocaleString("en");
if (scale > 1) document.getElementById("sample").textContent = `Counted on a sample of ${values.length} documents, scaled up.`;

function holds(rule, value, threshold) {
  if (value === null || threshold === null) return true;
  return rules[rule].least ? value >= threshold : value <= threshold;
}

// Counts anew with the thresholds that stand in the table.
function count() {
  const thresholds = inputs.map((input) => (input.value.trim() === "" ? null : Number(input.value)));
  const alone = rules.map(() => 0), order = rules.map(() => 0), only = rules.map(() => 0);
  let kept = 0;
  for (const document of values) {
    const fired = rules.map((_, rule) => rule).filter((rule) => !holds(rule, document[rule], thresholds[rule]));
    fired.forEach((rule) => alone[rule]++);
    if (fired.length === 0) kept++;
    else order[fired[0]]++;
    if (fired.length === 1) only[fired[0]]++;
  }
  document.getElementById("kept").textContent = shown(kept);
  rows.forEach((row, rule) => {
    [alone[rule], order[rule], kept + only[rule]].forEach((n, at) => { row.cells[3 + at].textContent = shown(n); });
    inputs[rule].classList.toggle("changed", inputs[rule].value !== inputs[rule].defaultValue);
    draw(rules[rule].name, thresholds[rule]);
  });
  snippet(thresholds);
}

// Moves the line in the rule's distribution.
function draw(name, threshold) {
  const svg = document.querySelector(`#${name} svg`), line = svg && svg.querySelector(".threshold");
  if (!line || threshold === null) return;
  const x = Math.min(1.01, Math.max(-0.01, (threshold - svg.dataset.from) / svg.dataset.span)) * 400;
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
}

// What a recipe has to say to get these counts.
function snippet(thresholds) {
  const changed = rules.filter((_, rule) => inputs[rule].value !== inputs[rule].defaultValue);
  const box = document.getElementById("recipe");
  box.hidden = changed.length === 0;
  const off = (rule) => (rule.switch ? "false" : rule.least ? "0" : "the largest value that the recipe takes");
  const lines = changed.map((rule) => {
    const threshold = thresholds[rules.indexOf(rule)];
    return `${rule.key} = ${threshold === null ? off(rule) : rule.switch ? "true" : threshold}`;
  });
  box.querySelector("pre").textContent = ["[filters]", ...lines].join("\n");
}

inputs.forEach((input) => input.addEventListener("input", count));
count();

// A click on a head sorts its table, another one the other way round.
for (const head of document.querySelectorAll(".sortable th")) {
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], at = head.cellIndex;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[at].querySelector("input")?.value ?? row.cells[at].textContent.replaceAll(",", "");
    const order = (one, other) => {
      const [a, b] = [key(one), key(other)];
      return a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
    };
    body.append(...[...body.rows].sort((one, other) => (up ? 1 : -1) * order(one, other)));
  });
}
