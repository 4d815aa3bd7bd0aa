"use strict";
const { rules, values, documents } = JSON.parse(document.getElementById("data")?.textContent ?? '{"rules":[],"values":[],"documents":0}');
const rows = [...document.querySelectorAll("#thresholds tr.rule")];
const inputs = rows.map((row) => row.querySelector("input"));
// Counts of a sample are scaled up to all documents.
const scale = documents / values.length;
const formatted = (count) => Math.round(count * scale).toLocaleString("en");
if (scale > 1) document.getElementById("sample").textContent = `Estimated from a sample of ${values.length.toLocaleString("en")} documents.`;

function passes(rule, value, threshold) {
  if (value === null || threshold === null) return true;
  return rules[rule].least ? value >= threshold : value <= threshold;
}

// Updates the counts for the thresholds in the table.
function update() {
  const thresholds = inputs.map((input) => (input.value.trim() === "" ? null : Number(input.value)));
  const alone = rules.map(() => 0), order = rules.map(() => 0), only = rules.map(() => 0);
  let kept = 0;
  for (const document of values) {
    const rejecting = rules.map((_, rule) => rule).filter((rule) => !passes(rule, document[rule], thresholds[rule]));
    rejecting.forEach((rule) => alone[rule]++);
    if (rejecting.length === 0) kept++;
    else order[rejecting[0]]++;
    if (rejecting.length === 1) only[rejecting[0]]++;
  }
  document.getElementById("kept").textContent = formatted(kept);
  rows.forEach((row, rule) => {
    [alone[rule], order[rule], kept + only[rule]].forEach((n, at) => { row.cells[3 + at].textContent = formatted(n); });
    inputs[rule].classList.toggle("changed", inputs[rule].value !== inputs[rule].defaultValue);
    moveThreshold(rules[rule].name, thresholds[rule]);
  });
  showRecipe(thresholds);
}

// Moves the threshold's line in the histogram of the rule.
function moveThreshold(name, threshold) {
  const svg = document.querySelector(`#${name} svg`), line = svg && svg.querySelector(".threshold");
  if (!line || threshold === null) return;
  const x = Math.min(1.01, Math.max(-0.01, (threshold - svg.dataset.from) / svg.dataset.span)) * 400;
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
}

// Shows the thresholds as a recipe once one was changed: all of them, since a key left out would be the default.
function showRecipe(thresholds) {
  const box = document.getElementById("recipe");
  box.hidden = !inputs.some((input) => input.value !== input.defaultValue);
  const lines = rules.map((rule, at) => `${rule.key} = ${thresholds[at] === null ? rule.off : rule.switch ? "true" : thresholds[at]}`);
  box.querySelector("pre").textContent = ["[filters]", ...lines].join("\n");
}

inputs.forEach((input) => input.addEventListener("input", update));
if (rows.length > 0) update();

// A rule opens to its values.
for (const button of document.querySelectorAll("button.open")) {
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", open);
    button.closest("tbody").querySelector(".more").hidden = !open;
  });
}

document.getElementById("copy")?.addEventListener("click", async (event) => {
  const button = event.target, pre = document.querySelector("#recipe pre");
  try {
    await navigator.clipboard.writeText(pre.textContent);
    button.textContent = "Copied";
  } catch {
    // Without permission, or without TLS: the text is selected instead.
    getSelection().selectAllChildren(pre);
    button.textContent = "Selected: copy with Ctrl+C";
  }
});

// More documents are being measured. A page on which somebody tries thresholds stays.
if ("again" in document.body.dataset) {
  setTimeout(() => { if (!inputs.some((input) => input.value !== input.defaultValue)) location.reload(); }, 2000);
}

// A click on a heading sorts its table, a second one in reverse.
for (const head of document.querySelectorAll(".sortable th")) {
  head.addEventListener("click", () => {
    // A rule's line and what it opens to are a body of their own, and move together.
    const table = head.closest("table"), at = head.cellIndex, bodies = [...table.tBodies];
    const [into, lines] = bodies.length > 1 ? [table, bodies] : [bodies[0], [...bodies[0].rows]];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (line) => {
      const cell = (line.rows ? line.rows[0] : line).cells[at];
      return cell.querySelector("input")?.value ?? cell.textContent.replaceAll(",", "");
    };
    const order = (one, other) => {
      const [a, b] = [key(one), key(other)];
      return a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b);
    };
    into.append(...lines.sort((one, other) => (up ? 1 : -1) * order(one, other)));
  });
}
