// The text of the spec: with its diagnostics and reasons marked, and edited in place where a server compiles it.

const edits = new Map(); // by file: {text, errors}: what the reader has made of it
const DEBOUNCE = 300; // ms after the last key

const textOf = (source) => edits.get(source.name)?.text ?? source.text;

/** The files of all layouts, each once. */
function sourcesNow() {
  const found = data.sources ?? data.layouts.map((layout) => layout.source);
  return [...new Map(found.map((source) => [source.name, source])).values()];
}

/** What is wrong or worth a warning, each once. */
function diagnosticsNow() {
  const edited = [...edits.values()].flatMap((edit) => edit.errors);
  const found = data.errors ?? [...edited, ...(edited.length ? [] : data.layouts.flatMap((layout) => layout.diagnostics))];
  return [...new Map(found.map((d) => [d.text, d])).values()];
}

function showDiagnostics() {
  const list = $("diagnostics");
  const found = diagnosticsNow();
  list.replaceChildren();
  for (const d of found) {
    const button = element("button", { type: "button" }, element("b", {}, `${d.severity} ${d.code}`.trim()), `: ${d.message}`);
    const place = d.marks.length ? `${d.file}, line ${d.marks[0][0] + 1}` : d.file;
    button.append(element("small", {}, [place, d.hint && `help: ${d.hint}`].filter(Boolean).join("; ")));
    button.addEventListener("click", () => goTo(d));
    list.append(element("li", { class: d.severity }, button));
  }
  if (!found.length) list.append(element("li", { class: "muted" }, "No errors, no warnings."));
  showSources();
}

/** The files; a text that is being edited stays as it is, and its marks are renewed. */
function showSources() {
  const box = $("sources");
  const sources = sourcesNow();
  const names = sources.map(({ name }) => name);
  if (JSON.stringify([...box.children].map((each) => each.dataset.file)) !== JSON.stringify(names)) {
    box.replaceChildren(...sources.map(data.served && !data.errors ? editable : readable));
  }
  markSources();
}

function frame(name, ...content) {
  return element("details", { class: "source", open: "", "data-file": name }, element("summary", {}, name), ...content);
}

const readable = ({ name }) => frame(name, element("ol"));

function editable(source) {
  const under = element("pre", { class: "under", "aria-hidden": "true" });
  const area = element("textarea", { spellcheck: "false", autocapitalize: "off", autocomplete: "off", "aria-label": `Text of ${source.name}`, "aria-describedby": "diagnostics" });
  area.value = textOf(source);
  area.rows = Math.max(5, Math.min(14, area.value.split("\n").length + 2));
  area.addEventListener("input", () => edit(source.name, area.value));
  area.addEventListener("scroll", () => (under.scrollTop = area.scrollTop));
  const revert = element("button", { type: "button", class: "revert", hidden: "" }, "Revert to the file");
  revert.addEventListener("click", () => {
    area.value = sourcesNow().find(({ name }) => name === source.name).file ?? source.text;
    edit(source.name, area.value, 0);
  });
  return frame(source.name, element("div", { class: "editor" }, under, area), revert);
}

/** Everything that is marked in a file: errors, warnings, and the parts of a reason. */
function marksOf(file) {
  const wrong = diagnosticsNow().map((d) => ({ ...d, kind: d.severity, title: d.message }));
  const reasons = (state.why?.reasons ?? []).map((reason) => ({ ...reason, kind: reason.effect, title: reason.said }));
  return [...reasons, ...wrong].filter((each) => each.file === file);
}

function markSources() {
  for (const box of $("sources").children) {
    const source = sourcesNow().find(({ name }) => name === box.dataset.file);
    if (!source) continue;
    const marks = marksOf(source.name);
    const area = box.querySelector("textarea");
    const lines = (area ? area.value : source.text.replace(/\n$/, "")).split("\n");
    const marked = lines.map((line, at) => markedLine(line, at, marks));
    if (area) {
      const content = marked.flatMap((nodes, at) => (at ? ["\n", ...nodes] : nodes));
      box.querySelector("pre").replaceChildren(...content, "\n ");
      box.querySelector(".revert").hidden = !edits.has(source.name);
    } else {
      const wrong = (at) => marks.find((each) => each.marks.some((m) => m[0] === at))?.kind;
      box.querySelector("ol").replaceChildren(...marked.map((nodes, at) => element("li", wrong(at) ? { class: `marked ${wrong(at)}`, tabindex: "-1" } : {}, ...nodes)));
    }
  }
}

function markedLine(line, at, marks) {
  const found = marks.flatMap((each) => each.marks.filter((m) => m[0] === at).map((m) => [each, m]));
  const letters = [...line]; // columns count characters, not halves of them
  const nodes = [];
  let column = 0;
  for (const [each, [, start, stop]] of found.sort((x, y) => x[1][1] - y[1][1])) {
    if (start < column) continue;
    nodes.push(letters.slice(column, start).join(""), element("mark", { title: each.title, class: each.kind }, letters.slice(start, stop).join("") || " "));
    column = stop;
  }
  return [...nodes, letters.slice(column).join("")];
}

/** Go to the place of a diagnostic or a reason. */
function goTo(d) {
  const box = [...document.querySelectorAll(".source")].find((s) => s.dataset.file === d.file);
  if (!box || !d.marks.length) return;
  box.open = true;
  const [line, start, stop] = d.marks[0];
  const area = box.querySelector("textarea");
  if (area) {
    const lines = area.value.split("\n");
    const before = lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0);
    const units = (count) => [...lines[line]].slice(0, count).join("").length;
    area.focus();
    area.setSelectionRange(before + units(start), before + units(stop));
    return;
  }
  const item = box.querySelectorAll("li")[line];
  item.scrollIntoView({ block: "nearest" });
  item.focus({ preventScroll: true });
}

// ---- edits ---------------------------------------------------------------------------------------

let typing = 0;

/** Take a text for that of a file, and compile it once the reader rests. */
function edit(name, text, after = DEBOUNCE) {
  const source = sourcesNow().find((each) => each.name === name);
  source.file ??= source.text;
  for (const layout of data.layouts) if (layout.source.name === name) layout.source.file ??= source.file;
  if (state.why) state.why.reasons = []; // their places are those of another text
  if (text === source.file) edits.delete(name);
  else edits.set(name, { text, errors: edits.get(name)?.errors ?? [] });
  markSources();
  clearTimeout(typing);
  typing = setTimeout(() => recompile(name, text), after);
}

/** Ask for all layouts of a file with a text in place of its own. */
async function recompile(name, text) {
  const places = [...data.layouts.keys()].filter((place) => data.layouts[place].source.name === name);
  const answers = await Promise.all(places.map((place) => ask("layout", { layout: place, text })));
  const now = edits.get(name)?.text;
  if (now !== undefined && now !== text) return; // the reader has typed on
  const errors = answers.flatMap((answer) => answer.errors ?? []);
  if (edits.has(name)) edits.get(name).errors = errors;
  if (!errors.length) {
    places.forEach((place, at) => {
      const { label, source } = data.layouts[place];
      data.layouts[place] = { ...answers[at], label, draft: edits.has(name) ? text : undefined, source: { name, text, file: source.file } };
    });
    takeSettings();
    buildSettings();
  }
  showDiagnostics();
  if (!errors.length) await update();
  else refresh();
}
