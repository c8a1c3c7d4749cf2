// How it all begins, and what follows from a change.

/** Get the views of the chosen setting; where one means nothing, the last good picture stays. */
let asked = 0;
async function update() {
  const mine = ++asked;
  const views = await Promise.all(data.layouts.map((_, place) => viewOf(place)));
  if (mine !== asked) return; // the reader has moved on
  views.forEach((view, place) => {
    state.problems[place] = view.errors ?? [];
    if (!view.errors) state.shown[place] = view;
  });
  const view = subject();
  followSubject();
  if (state.cursor && view && (state.cursor.i >= view.rows || state.cursor.j >= view.columns)) state.cursor = null;
  if (view && state.only >= view.terms.length) state.only = -1;
  buildModes();
  refresh();
}

/** Show the state. */
function refresh() {
  draw();
  showFigures();
  showLegend();
  showReadout();
  showField();
  showSpec();
  showNotice();
}

function showNotice() {
  const [a, b] = pair();
  const found = [...(data.errors ?? []), ...state.problems.flat()];
  const words = found.slice(0, 3).map((e) => [e.message, e.hint].filter(Boolean).join("; "));
  if (!found.length && b && state.mode === "difference" && !comparable(a, b)) {
    words.push("these two differ in length or blocks, and cannot be laid over each other; A is shown");
  } else if (found.length && a) {
    words.push("What is shown is the last that could be drawn.");
  }
  $("notice").hidden = !words.length;
  if ($("notice").textContent !== words.join(" - ")) $("notice").textContent = words.join(" - ");
  $("stage").classList.toggle("stale", found.length > 0);
}

/** Take what the server has after a change of the spec: new data, or what is wrong. */
async function reload() {
  const fresh = await ask("data");
  data.version = fresh.version ?? data.version;
  if (fresh.errors) {
    data.errors = fresh.errors;
    if (fresh.sources) data.sources = fresh.sources;
  } else {
    delete data.errors;
    delete data.sources;
    Object.assign(data, fresh);
    state.shown.length = state.problems.length = data.layouts.length;
    takeSettings();
    buildSettings();
  }
  showDiagnostics();
  await update();
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
$("play").addEventListener("click", play);
$("back").addEventListener("click", () => step(-1));
$("forth").addEventListener("click", () => step(1));
$("clear").addEventListener("click", clearField);
const fromBlock = () => setField(Math.floor(Number($("from").value)) || 0);
$("from").addEventListener("change", fromBlock);
$("from").addEventListener("keydown", (event) => event.key === "Enter" && fromBlock());
$("stage").addEventListener("keydown", onKey);
panes.forEach(listenTo);
let resizing = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    draw();
    clampPan();
    draw();
  });
}).observe($("stage"));

takeSettings();
buildSettings();
showDiagnostics();
update().then(fit);
if (data.served) watchServer();
