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

const ANSWERS = new Map([[true, "yes"], [false, "no"], [null, "not decided"]]);

/** What `bslang stats` decides; the reason of an answer stands below it. */
function showProperties() {
  const [a, b] = pair();
  const two = state.mode !== "a" && b && !state.panels.length;
  const list = $("properties");
  list.replaceChildren();
  if (!a) return;
  a.properties.forEach((property, at) => {
    const answers = (two ? [a, b] : [subject()]).map((view) => view.properties[at]);
    list.append(element("dt", {}, property.name));
    const said = answers.map((answer, place) => {
      const words = element("span", { class: `answer ${ANSWERS.get(answer.holds).split(" ")[0]}` }, ANSWERS.get(answer.holds));
      const why = answer.because ? element("small", {}, answer.because) : "";
      return element("dd", { id: `property-${at}${place || ""}` }, two ? `${"AB"[place]}: ` : "", words, why);
    });
    list.append(...said);
  });
  const hops = subject().hops === null ? (subject().ended ? "never all" : "not decided") : plural(subject().hops, "layer");
  list.append(element("dt", {}, "Every block reached"), element("dd", { id: "property-hops" }, hops));
}

function showFigures() {
  const [a, b] = pair();
  const two = state.mode !== "a" && b && !state.panels.length;
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
  if (state.panels.length) {
    for (const [text, colour] of termsOfPanels()) entry(colour, text);
    if (state.panels.some(({ view }) => view.figures.partial)) hatched();
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

/** The terms of heads or layers side by side, with their colours: those that all have, and those of some. */
function termsOfPanels() {
  const found = new Map(); // the captions by colour and term
  for (const { view, caption } of state.panels) {
    view.terms.forEach(([text], term) => {
      const key = JSON.stringify([text, colourOf(term)]);
      found.set(key, [...(found.get(key) ?? []), caption.split(":")[0]]);
    });
  }
  return [...found].map(([key, captions]) => {
    const [text, colour] = JSON.parse(key);
    return [captions.length === state.panels.length ? text : `${captions.join(", ")}: ${text}`, colour];
  });
}

const colourOf = (term) => data.palette[term % data.palette.length];

/** Stretches [start, stop) as one says them: 0, 3 to 5, 9. */
function ranges(stretches, most = 8) {
  const joined = [];
  for (const [start, stop] of stretches) {
    if (joined.at(-1)?.[1] === start) joined.at(-1)[1] = stop;
    else if (joined.length > most) break;
    else joined.push([start, stop]);
  }
  const parts = joined.map(([start, stop]) => (stop - start === 1 ? `${start}` : stop - start === 2 ? `${start}, ${start + 1}` : `${start} to ${stop - 1}`));
  return parts.length > most ? `${parts.slice(0, most).join(", ")} and more` : parts.join(", ");
}

function showReadout() {
  const [a, b] = pair();
  const both = ["side", "difference"].includes(state.mode) && comparable(a, b);
  const out = $("readout");
  if (!a) out.textContent = "";
  else if (!state.cursor) out.textContent = "Point at a block, or give the picture the focus and use the arrow keys. Click for the reasons.";
  else if (state.panels.length) out.textContent = readPanels();
  else out.textContent = both ? readBoth(a, b) : readBlock(subject());
}

function blockText(view, i, j) {
  const look = lookAt(view, i, j);
  if (look === undefined) return "not known here";
  return look < 0 ? "empty" : `${look % 2 ? "partial" : "full"}, ${view.terms[look >> 1][0]}`;
}

function readBlock(view) {
  const { i, j } = state.cursor;
  const level = panes[0].view === view ? levelOf(view, pxOfBlock(view, transform(panes[0], view))) : -1;
  if (level > 0 || !rowsOf(view)) return readCell(view, Math.max(0, level), i, j);
  const row = rowsOf(view)[i];
  const attended = [];
  for (let at = 0; at < row.length; at += 3) attended.push([row[at], row[at + 1]]);
  const attends = attended.reduce((sum, [start, stop]) => sum + stop - start, 0);
  const seen = [];
  for (let r = 0; r < view.rows; r += 1) if (lookAt(view, r, j) >= 0) seen.push([r, r + 1]);
  const last = Math.min(view.tokens, (i + 1) * view.block[0]) - 1;
  return (
    `Block (${i}, ${j}): ${blockText(view, i, j)}. ${readPair(view)}` +
    `Row ${i} (tokens ${i * view.block[0]} to ${last}) attends to ${plural(attends, "block")}${attends ? `: ${ranges(attended)}` : ""}. ` +
    `Column ${j} reaches ${plural(seen.length, "row")}${seen.length ? `: ${ranges(seen)}` : ""}.`
  );
}

/** What is known of the pair under the pointer, where pairs are drawn. */
function readPair(view) {
  const at = state.pointer;
  if (!at || !panes[0].view || transform(panes[0], view).scale < MASKED.token) return "";
  const has = pairIn(view, at.q, at.k);
  const look = lookAt(view, state.cursor.i, state.cursor.j);
  if (has === null && look >= 0) return `Query ${at.q}, key ${at.k}: ${view.awaits ? `the ${view.awaits} of the call decide` : "a mask decides"}. `;
  return `Query ${at.q} ${has ? "sees" : "does not see"} key ${at.k}. `;
}

function readCell(view, level, i, j) {
  const cell = cellAt(view, level, i, j);
  const unit = 2 ** level;
  const until = (at, size) => Math.min(at + unit, size) - 1;
  const place = unit === 1 ? `Block (${i}, ${j})` : `Block rows ${grouped(i)} to ${grouped(until(i, view.rows))}, columns ${grouped(j)} to ${grouped(until(j, view.columns))}`;
  if (cell === undefined) return `${place}.`;
  const area = (until(i, view.rows) - i + 1) * (until(j, view.columns) - j + 1);
  if (cell === null) return `${place}: empty.`;
  const [term, full, partial] = cell;
  if (unit === 1) return `${place}: ${blockText(view, i, j)}. ${readPair(view)}`;
  return `${place}: ${grouped(full)} full and ${grouped(partial)} partial of ${plural(area, "block")}, most by ${view.terms[term][0]}.`;
}

function readPanels() {
  const { i, j } = state.cursor;
  const has = state.panels.filter(({ view }) => lookAt(view, i, j) >= 0).map(({ caption }) => caption.split(":")[0]);
  return `Block (${i}, ${j}): ${has.length ? `in ${has.join("; ")}` : "in none"}.`;
}

function readBoth(a, b) {
  const { i, j } = state.cursor;
  return `Block (${i}, ${j}): in A ${blockText(a, i, j)}; in B ${blockText(b, i, j)}.`;
}

/** What the picture is made of, where it is not of blocks. */
function showScale() {
  const [pane] = panes;
  const view = pane?.view;
  if (!view) return;
  const level = levelOf(view, pxOfBlock(view, transform(pane, view)));
  const side = grouped(2 ** level);
  const more = !rowsOf(view) && !data.served ? "; this file holds no more: `bslang explorer --serve` draws every block" : "; zoom in for single blocks";
  $("scale").textContent = level > 0 && !pane.other ? `Each cell is ${side} x ${side} blocks: the paler, the emptier${more}.` : "";
}

const MOST_FOLLOWED = 60000; // MAX_PAGE_RUNS

function showField() {
  const view = subject();
  const field = state.field;
  $("play").textContent = timer ? "Stop" : "Play";
  const idle = view && !rowsOf(view) ? `Rows are followed up to ${grouped(MOST_FOLLOWED)} runs of blocks; this layout has more.` : "Choose a row, and see what it has received from after each layer.";
  $("field").textContent = field ? fieldText(field) : idle;
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
  const axis = state.panels.length > 0 && `${state.mode} ${state.shared[state.mode]}`;
  for (const heading of document.querySelectorAll(".which")) heading.textContent = axis && heading.id !== "which-spec" ? ` of ${axis}` : letter() && ` of ${letter()}`;
}
