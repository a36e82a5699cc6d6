"use strict";
// Texts reach the page through textContent alone. An item is described in nemo_prm/evaluation/report_items.py.
const items = JSON.parse(document.getElementById("data").textContent);
const MEASURES = ["label", "score", "reward", "advantage"];
const by = (id) => document.getElementById(id);
const state = { measure: null, shown: [] };

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function options(select, names, all) {
  select.replaceChildren(...[all, ...names].map((name, i) => make("option", { value: i ? name : "", textContent: name })));
}

const distinct = (values) => [...new Set(values)];
const bySource = () => items.filter((item) => !by("source").value || item.source === by("source").value);

function refreshGroups() {
  const chosen = by("group").value;
  options(by("group"), distinct(bySource().map((item) => item.group)), "all");
  by("group").value = chosen;
  if (by("group").selectedIndex < 0) by("group").selectedIndex = 0;
}

function haystack(item) {
  item.text ??= [item.id, item.prompt, ...item.lines.map((line) => line[0])].join("\n").toLowerCase();
  return item.text;
}

function refreshList() {
  const group = by("group").value, wanted = by("find").value.toLowerCase();
  state.shown = bySource().filter((item) => (!group || item.group === group) && (!wanted || haystack(item).includes(wanted)));
  by("list").replaceChildren(...state.shown.map((item, i) =>
    make("option", { value: String(i), textContent: `${item.id} · ${item.group}` })));
  by("count").textContent = `${state.shown.length} of ${items.length} responses`;
  by("list").selectedIndex = state.shown.length ? 0 : -1;
  show();
}

const has = (lines, measure) => lines.some((line) => line[1 + MEASURES.indexOf(measure)] !== null);

function mark(measure, value) {
  if (value === null) return "";
  if (value === 0) return "0";
  const sign = value > 0 ? "+" : "−";
  return measure === "label" && Math.abs(value) === 1 ? sign : sign + Math.abs(value).toFixed(measure === "label" ? 2 : 3);
}

function code(lines, measure) {
  const column = 1 + MEASURES.indexOf(measure);
  const largest = measure === "label" || measure === "score" ? 1 : Math.max(1e-9, ...lines.map((line) => Math.abs(line[column] ?? 0)));
  const body = make("tbody");
  lines.forEach((line, i) => {
    const value = line[column];
    const kind = value === null ? "" : value > 0 ? "pos" : value < 0 ? "neg" : "zero";
    const row = make("tr", { className: `line ${kind}` });
    if (kind) row.style.setProperty("--share", Math.round(100 * Math.min(1, Math.abs(value) / largest)) + "%");
    const title = MEASURES.map((name, at) => [name, line[1 + at]]).filter(([, number]) => number !== null)
      .map(([name, number]) => `${name} ${number.toPrecision(3)}`).join(", ");
    row.append(make("td", { className: "lineno", textContent: String(i + 1) }),
      make("td", { className: "mark", textContent: mark(measure, value), title }),
      make("td", { className: "text", textContent: line[0] }));
    body.append(row);
  });
  const head = make("thead", { className: "hidden" }, make("tr", {},
    ...["Line", measure, "Code"].map((name) => make("th", { scope: "col", textContent: name }))));
  return make("table", { className: "code" }, head, body);
}

function probes(item) {
  const box = make("div", { className: "probes" });
  for (const probe of item.probes) {
    const summary = make("summary", { textContent:
      `up to line ${probe.line}: ${probe.passed} of ${probe.drawn} completions passed, ` + (probe.passed ? "completable" : "not completable") });
    const details = make("details", {}, summary);
    for (const [text, rate, feedback] of probe.completions) {
      details.append(make("p", { className: "meta", textContent: `${Math.round(100 * rate)} % of the tests. ${feedback}` }),
        make("pre", { className: "task", textContent: text || "(the response itself)" }));
    }
    if (!probe.completions.length) details.append(make("p", { className: "meta", textContent: "Its completions were not kept: label with keep_completions=true." }));
    box.append(details);
  }
  return box;
}

function candidates(item, measure) {
  const box = make("div");
  item.candidates.forEach((candidate, i) => {
    const origin = candidate.refines === null ? "" : `, refines number ${candidate.refines + 1} after ${candidate.kept} thoughts`;
    const details = make("details", { className: candidate.chosen ? "chosen" : "" },
      make("summary", { textContent: `${i + 1}${candidate.chosen ? " (the answer)" : ""}${origin}: ${candidate.public}` }));
    const pair = make("div", { className: "pair" });
    if (candidate.refines !== null) {
      pair.append(make("div", {}, make("h4", { textContent: "Before" }), code(item.candidates[candidate.refines].lines, measure)));
    }
    pair.append(make("div", {}, candidate.refines === null ? null : make("h4", { textContent: "After" }), code(candidate.lines, measure)));
    details.append(pair);
    box.append(details);
  });
  return box;
}

function refreshMeasures(item) {
  const there = MEASURES.map((measure) => item !== undefined && has(item.lines, measure));
  if (!there[MEASURES.indexOf(state.measure)]) state.measure = MEASURES[Math.max(0, there.indexOf(true))];
  by("measures").replaceChildren(...MEASURES.map((measure, i) => make("label", {},
    make("input", { type: "radio", name: "measure", value: measure, checked: measure === state.measure, disabled: !there[i] }), ` ${measure}`)));
}

function show() {
  const item = state.shown[by("list").selectedIndex];
  refreshMeasures(item);
  const detail = by("detail");
  if (item === undefined) {
    detail.replaceChildren(make("p", { textContent: "No response fits." }));
    return;
  }
  const notes = make("dl");
  for (const [name, text] of item.notes) notes.append(make("dt", { textContent: name }), make("dd", { textContent: text }));
  const parts = [make("h3", {}, make("span", { textContent: item.id }), " ", make("span", { className: "class", textContent: item.group }))];
  if (item.prompt) parts.push(make("h4", { textContent: "Task" }), make("pre", { className: "task", tabIndex: 0, textContent: item.prompt }));
  parts.push(make("h4", { textContent: "Response" }), code(item.lines, state.measure), notes);
  if (item.probes) parts.push(make("h4", { textContent: "Search for the first bad step" }),
    item.probes.length ? probes(item) : make("p", { textContent: "No prefix was searched." }));
  if (item.candidates) parts.push(make("h4", { textContent: "Candidates" }), candidates(item, state.measure));
  detail.replaceChildren(...parts);
}

function move(by_how_many) {
  const list = by("list");
  list.selectedIndex = Math.min(Math.max(list.selectedIndex + by_how_many, 0), state.shown.length - 1);
  show();
}

if (by("list")) {
  options(by("source"), distinct(items.map((item) => item.source)), "everything");
  by("controls").addEventListener("submit", (event) => event.preventDefault());
  by("source").addEventListener("change", () => { refreshGroups(); refreshList(); });
  by("group").addEventListener("change", refreshList);
  by("find").addEventListener("input", refreshList);
  by("list").addEventListener("change", show);
  by("measures").addEventListener("change", (event) => { state.measure = event.target.value; show(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "radio") return;
    const radio = document.querySelectorAll("#measures input")[Number(event.key) - 1];
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "/") { event.preventDefault(); by("find").focus(); }
    else if (radio && !radio.disabled) { state.measure = radio.value; show(); }
  });
  refreshGroups();
  refreshList();
}
