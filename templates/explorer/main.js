// How it all begins, and what follows from a change.

/** Get the views of the chosen setting; where one has errors, the last good picture stays. */
let asked = 0;
async function update() {
  const mine = ++asked;
  const views = await Promise.all(data.layouts.map((_, place) => viewOf(place)));
  const panels = await panelsOf(state.mode);
  if (mine !== asked) return; // the reader has moved on
  views.forEach((view, place) => {
    state.problems[place] = view.errors ?? [];
    if (!view.errors) state.shown[place] = view;
  });
  state.panels = panels;
  const view = subject();
  followSubject();
  if (state.cursor && view && (state.cursor.i >= view.rows || state.cursor.j >= view.columns)) state.cursor = null;
  if (view && state.only >= view.terms.length) state.only = -1;
  buildModes();
  refresh();
  askWhyAgain();
}

/** The heads or the layers of A, each with its view; those that are alike together. */
async function panelsOf(mode) {
  const axis = data.layouts[0]?.axes.find(({ name, kind }) => name === mode && (kind === "head" || kind === "layer"));
  if (!axis) return [];
  const views = await Promise.all(axis.values.map((value) => viewOf(0, { [axis.name]: value })));
  const alike = new Map();
  axis.values.forEach((value, at) => {
    if (!views[at].errors) alike.set(views[at], [...(alike.get(views[at]) ?? []), Number(value)]);
  });
  return [...alike].map(([view, values]) => {
    const text = ranges(values.map((value) => [value, value + 1]));
    return { view, caption: `${axis.name}${values.length > 1 ? "s" : ""} ${text}: ${percent(view.figures.density)}` };
  });
}

/** Show the state. */
function refresh() {
  draw();
  showProperties();
  showFigures();
  showLegend();
  showReadout();
  showField();
  showSpec();
  showWhy();
  showNotice();
}

function showNotice() {
  const [a, b] = pair();
  const found = [...(data.errors ?? []), ...state.problems.flat()];
  const words = found.slice(0, 3).map((e) => [e.message, e.hint].filter(Boolean).join("; "));
  if (!found.length && b && state.mode === "difference" && !comparable(a, b)) {
    const few = a.runs && b.runs;
    words.push(few ? "these two differ in length or blocks, and cannot be laid over each other; A is shown" : "one of these has too many blocks to be laid over the other; A is shown");
  } else if (found.length && a) {
    words.push("What is shown is the last that could be drawn.");
  }
  $("notice").hidden = !words.length;
  if ($("notice").textContent !== words.join(" - ")) $("notice").textContent = words.join(" - ");
  const edited = [...edits.values()].some((edit) => edit.errors.length > 0);
  $("stage").classList.toggle("stale", found.length > 0 || edited);
  $("edited").textContent = edited ? "The picture is that of the last text without errors." : "";
}

/** Take what the server has after a change of the spec: new data, or what is wrong. */
async function reload() {
  const fresh = await ask("data", null);
  data.version = fresh.version ?? data.version;
  if (fresh.errors) {
    data.errors = fresh.errors;
    if (fresh.sources) data.sources = fresh.sources;
  } else {
    delete data.errors;
    delete data.sources;
    Object.assign(data, fresh);
    state.shown.length = state.problems.length = data.layouts.length;
    $("sources").replaceChildren(); // their texts are new
    takeSettings();
    buildSettings();
  }
  showDiagnostics();
  await update();
  for (const [name, { text }] of edits) edit(name, text, 0);
}

function watchServer() {
  const events = new EventSource(`events?since=${data.version}`);
  events.addEventListener("open", () => ($("live").textContent = "live"));
  events.addEventListener("changed", reload);
  events.addEventListener("error", () => ($("live").textContent = "server gone"));
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let themeChosen = false;
setTheme(prefersDark.matches ? "dark" : "light");
prefersDark.addEventListener("change", () => themeChosen || setTheme(prefersDark.matches ? "dark" : "light"));
$("theme").addEventListener("click", () => {
  themeChosen = true;
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});
$("keys").addEventListener("click", () => $("help").showModal());
$("in").addEventListener("click", () => zoomBy(1.5));
$("out").addEventListener("click", () => zoomBy(1 / 1.5));
$("fit").addEventListener("click", fit);
$("hold").addEventListener("click", hold);
$("copy").addEventListener("click", copySpec);
$("share").addEventListener("click", share);
$("svg").addEventListener("click", saveSvg);
$("png").addEventListener("click", savePng);
$("play").addEventListener("click", play);
$("back").addEventListener("click", () => step(-1));
$("forth").addEventListener("click", () => step(1));
$("clear").addEventListener("click", clearField);
$("why-clear").addEventListener("click", clearWhy);
for (const id of ["why-q", "why-k"]) $(id).addEventListener("change", whyByNumbers);
const fromBlock = () => setField(Math.floor(Number($("from").value)) || 0);
$("from").addEventListener("change", fromBlock);
$("from").addEventListener("keydown", (event) => event.key === "Enter" && fromBlock());
$("stage").addEventListener("keydown", onKey);
$("map").addEventListener("pointerdown", (event) => {
  $("map").setPointerCapture(event.pointerId);
  goByMap(event);
});
$("map").addEventListener("pointermove", (event) => event.buttons && goByMap(event));
addEventListener("hashchange", () => {
  if (!location.hash.includes("=")) return;
  forget();
  location.reload();
});
let resizing = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    draw();
    clampPan();
    draw();
  });
}).observe($("stage"));

const address = takeAddress();
takeSettings();
buildSettings();
showDiagnostics();
update().then(async () => {
  fit();
  await Promise.all([...edits].map(([name, { text }]) => recompile(name, text)));
  await takePlace(address);
});
if (data.served) watchServer();
