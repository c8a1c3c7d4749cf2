// What stands beside the picture, in words and numbers.

/** An element with attributes, and text or elements in it. Text is never read as HTML. */
function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

const grouped = (number) => number.toLocaleString("en-US");
const percent = (share) => `${share && share < 5e-5 ? (100 * share).toPrecision(1) : (100 * share).toFixed(2)}%`;
const plural = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

/** A number with the largest unit that leaves at least 1 of it. */
function scaled(number, step, units) {
  let at = 0;
  for (; number >= step && at < units.length - 1; at += 1) number /= step;
  return `${number < 100 && at ? number.toFixed(2) : grouped(Math.round(number))} ${units[at]}`;
}

const flops = (count) => scaled(count, 1000, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"]);
const bytes = (count) => scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);

const FIGURES = [
  ["density", "Density", (v) => percent(v.figures.density)],
  ["blocks", "Visited blocks", (v) => grouped(v.figures.blocks)],
  ["kinds", "Full, partial", (v) => `${grouped(v.figures.full)}, ${grouped(v.figures.partial)}`],
  ["pairs", "Token pairs", (v) => (v.figures.pairs === null ? "not decided" : grouped(v.figures.pairs))],
  ["rows", "Blocks per row", (v) => `${grouped(v.figures.shortest)} to ${grouped(v.figures.longest)}`],
  ["flops", "Forward pass", (v) => flops(v.figures.flops[0])],
  ["dense", "Dense forward pass", (v) => `${flops(v.figures.flops[1])}${v.figures.baseline === "dense" ? "" : " (causal)"}`],
  ["bytes", "Keys and values read", (v) => bytes(v.figures.bytes[0])],
  ["speedup", "Expected speed-up", speedup],
];

function speedup({ figures }) {
  return figures.speedup === null ? "-" : `${figures.speedup.map((times) => (times < 100 ? times.toFixed(1) : grouped(Math.round(times)))).join(" to ")} times ${figures.baseline}`;
}

function showFigures() {
  const [a, b] = pair();
  const two = state.mode !== "a" && b;
  const table = $("figures");
  table.replaceChildren();
  if (!a) return;
  if (two) {
    const head = element("tr", {}, element("td"), ...["A", "B"].map((name) => element("th", { scope: "col" }, name)));
    table.append(element("thead", {}, head));
  }
  const body = element("tbody");
  const add = (id, name, ...cells) => {
    const row = element("tr", {}, element("th", { scope: "row" }, name));
    cells.forEach((text, place) => row.append(element("td", { id: `figure-${id}${place || ""}` }, text)));
    body.append(row);
  };
  for (const [id, name, text] of FIGURES) add(id, name, ...(two ? [a, b] : [a]).map(text));
  if (two && comparable(a, b)) {
    const [onlyA, onlyB, both] = differences(a, b);
    add("difference", "Only here", grouped(onlyA), grouped(onlyB));
    add("both", "In both", grouped(both), grouped(both));
  }
  table.append(body);
}

/** Blocks only in A, only in B, and in both. */
function differences(a, b) {
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < a.rows; i += 1) {
    const row = compared(a, b, i);
    for (let at = 0; at < row.length; at += 3) counts[row[at + 2]] += row[at + 1] - row[at];
  }
  return counts.slice(1);
}

/** The picture in a few sentences, for those who do not see it. */
function describe(view, other) {
  const size = `${plural(view.tokens, "token")}, ${grouped(view.rows)} by ${plural(view.columns, "block")} of ${view.block.join(" by ")}`;
  if (other) {
    const [onlyA, onlyB, both] = differences(view, other);
    return `Difference at ${size}: ${grouped(onlyA)} blocks only in A, ${grouped(onlyB)} only in B, ${grouped(both)} in both.`;
  }
  const { blocks, density, full, partial } = view.figures;
  const kinds = `${grouped(blocks)} visited (${percent(density)}): ${grouped(full)} full, ${grouped(partial)} partial`;
  const terms = view.terms.map(([text, count]) => `${text}: ${plural(count, "block")}`).join("; ");
  return `Rows are queries, columns keys. ${size}; ${kinds}. ${terms}.`;
}

function showLegend() {
  const [a, b] = pair();
  const list = $("legend");
  list.replaceChildren();
  if (!a) return;
  const swatch = (colour) => {
    const made = element("i", { "aria-hidden": "true" });
    if (colour) made.style.background = colour;
    return made;
  };
  const entry = (colour, text) => {
    const made = element("span", { class: "entry" }, swatch(colour), text);
    list.append(element("li", {}, made));
    return made;
  };
  const hatched = () => (entry("", "partial block").firstChild.className = "partial");
  if (state.mode === "difference") {
    if (!comparable(a, b)) return;
    entry(data.palette[0], "only in A");
    entry(data.palette[1], "only in B");
    entry("var(--muted)", "in both");
    return;
  }
  if (state.mode === "side" && b) {
    [a, b].forEach((view, place) => view.terms.forEach(([text, count], term) => entry(colourOf(term), `${"AB"[place]}: ${text}: ${grouped(count)}`)));
    if (a.figures.partial || b.figures.partial) hatched();
    return;
  }
  const shown = subject();
  shown.terms.forEach(([text, count], term) => {
    const button = element("button", { type: "button", "aria-pressed": state.only === term }, swatch(colourOf(term)), `${text}: ${grouped(count)}`);
    button.addEventListener("click", () => {
      state.only = state.only === term ? -1 : term;
      draw();
      for (const [place, other] of [...list.querySelectorAll("button")].entries()) other.setAttribute("aria-pressed", state.only === place);
    });
    list.append(element("li", {}, button));
  });
  if (shown.figures.partial) hatched();
}

const colourOf = (term) => data.palette[term % data.palette.length];

/** Numbers as a spec writes ranges to people: 0, 3 to 5, 9. */
function ranges(numbers, most = 8) {
  const parts = [];
  for (let at = 0; at < numbers.length; ) {
    let stop = at + 1;
    while (stop < numbers.length && numbers[stop] === numbers[stop - 1] + 1) stop += 1;
    const [first, last] = [numbers[at], numbers[stop - 1]];
    parts.push(stop - at === 1 ? `${first}` : stop - at === 2 ? `${first}, ${last}` : `${first} to ${last}`);
    at = stop;
  }
  return parts.length > most ? `${parts.slice(0, most).join(", ")} and more` : parts.join(", ");
}

function showReadout() {
  const [a, b] = pair();
  const both = ["side", "difference"].includes(state.mode) && comparable(a, b);
  const out = $("readout");
  if (!a) out.textContent = "";
  else if (!state.cursor) out.textContent = "Point at a block, or give the picture the focus and use the arrow keys.";
  else out.textContent = both ? readBoth(a, b) : readBlock(subject());
}

function blockText(view, i, j) {
  const look = lookAt(view, i, j);
  return look < 0 ? "empty" : `${look % 2 ? "partial" : "full"}, ${view.terms[look >> 1][0]}`;
}

function readBlock(view) {
  const { i, j } = state.cursor;
  const row = rowsOf(view)[i];
  const attends = [];
  for (let at = 0; at < row.length; at += 3) for (let c = row[at]; c < row[at + 1]; c += 1) attends.push(c);
  const seen = [];
  for (let r = 0; r < view.rows; r += 1) if (lookAt(view, r, j) >= 0) seen.push(r);
  const last = Math.min(view.tokens, (i + 1) * view.block[0]) - 1;
  return (
    `Block (${i}, ${j}): ${blockText(view, i, j)}. ` +
    `Row ${i} (tokens ${i * view.block[0]} to ${last}) attends to ${plural(attends.length, "block")}${attends.length ? `: ${ranges(attends)}` : ""}. ` +
    `Column ${j} reaches ${plural(seen.length, "row")}${seen.length ? `: ${ranges(seen)}` : ""}.`
  );
}

function readBoth(a, b) {
  const { i, j } = state.cursor;
  return `Block (${i}, ${j}): in A ${blockText(a, i, j)}; in B ${blockText(b, i, j)}.`;
}

function showField() {
  const view = subject();
  const field = state.field;
  $("play").textContent = timer ? "Stop" : "Play";
  $("field").textContent = field ? fieldText(field) : "Choose a row, and see what it has received from after each layer.";
  const box = $("coverage");
  box.replaceChildren();
  if (!view) return;
  $("from").max = view.rows - 1;
  if (field) $("from").value = field.from;
  const [followed, all] = view.followed;
  const sample = followed < all ? ` (a sample of ${followed} of ${grouped(all)} followed)` : "";
  box.append(element("p", { class: "muted" }, `All pairs of blocks, by layer${sample}:`));
  view.coverage.forEach((share, at) => {
    const bar = element("i");
    bar.style.width = `${100 * share}%`;
    const now = field && state.layer === at + 1 ? "now" : "";
    box.append(element("span", { class: now }, `${at + 1}`), element("span", { class: "bar", "aria-hidden": "true" }, bar), element("span", { class: now }, percent(share)));
  });
  const end = view.hops !== null ? `Every block receives from every other within ${plural(view.hops, "layer")}.` : view.ended ? "Some blocks never receive from some others." : "";
  if (end) box.append(element("p", { class: "muted" }, end));
}

function showSpec() {
  const view = subject();
  $("spec").textContent = view ? view.spec.trimEnd() : "";
  $("about").textContent = view ? `${letter() && `${letter()}: `}${describe(view, null)}` : "";
  for (const heading of document.querySelectorAll(".which")) heading.textContent = letter() && ` of ${letter()}`;
}

function showDiagnostics() {
  const list = $("diagnostics");
  const found = data.errors ?? data.layouts.flatMap((layout) => layout.diagnostics);
  const once = [...new Map(found.map((d) => [d.text, d])).values()];
  list.replaceChildren();
  for (const d of once) {
    const button = element("button", { type: "button" }, element("b", {}, `${d.severity} ${d.code}`.trim()), `: ${d.message}`);
    const place = d.marks.length ? `${d.file}, line ${d.marks[0][0] + 1}` : d.file;
    button.append(element("small", {}, [place, d.hint && `help: ${d.hint}`].filter(Boolean).join("; ")));
    button.addEventListener("click", () => goTo(d));
    list.append(element("li", { class: d.severity }, button));
  }
  if (!once.length) list.append(element("li", { class: "muted" }, "No errors, no warnings."));
  showSources(once);
}

function showSources(diagnostics) {
  const sources = new Map((data.sources ?? data.layouts.map((layout) => layout.source)).map((s) => [s.name, s]));
  $("sources").replaceChildren();
  for (const { name, text } of sources.values()) {
    const list = element("ol");
    const marked = diagnostics.filter((d) => d.file === name);
    text.replace(/\n$/, "").split("\n").forEach((line, at) => list.append(sourceLine(line, at, marked)));
    const open = marked.length ? { open: "" } : {};
    const box = element("details", { class: "source", ...open, "data-file": name }, element("summary", {}, name), list);
    $("sources").append(box);
  }
}

function sourceLine(line, at, diagnostics) {
  const found = diagnostics.flatMap((d) => d.marks.filter((m) => m[0] === at).map((m) => [d, m]));
  if (!found.length) return element("li", {}, line);
  const item = element("li", { class: `marked ${found[0][0].severity}`, tabindex: "-1" });
  const letters = [...line]; // columns count characters, not halves of them
  let column = 0;
  for (const [d, [, start, stop]] of found.sort((x, y) => x[1][1] - y[1][1])) {
    if (start < column) continue;
    const text = letters.slice(start, stop).join("") || " ";
    item.append(letters.slice(column, start).join(""), element("mark", { title: d.message }, text));
    column = stop;
  }
  item.append(letters.slice(column).join(""));
  return item;
}

function goTo(d) {
  const box = [...document.querySelectorAll(".source")].find((s) => s.dataset.file === d.file);
  if (!box || !d.marks.length) return;
  box.open = true;
  const line = box.querySelectorAll("li")[d.marks[0][0]];
  line.scrollIntoView({ block: "nearest" });
  line.focus({ preventScroll: true });
}
