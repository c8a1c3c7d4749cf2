// What the reader does: sliders, buttons, keys, pointers.

function buildSettings() {
  const box = $("settings");
  box.replaceChildren();
  const seen = new Set();
  data.layouts.forEach((layout, place) => {
    const own = layout.axes.filter((axis) => !SHARED.includes(axis.name));
    const shared = layout.axes.filter((axis) => SHARED.includes(axis.name) && !seen.has(axis.name));
    for (const axis of shared) {
      seen.add(axis.name);
      box.append(setting(place, axis));
    }
    if (own.length && data.layouts.length > 1) box.append(element("p", { class: "of" }, `${"AB"[place]}: ${layout.label}`));
    for (const axis of own) box.append(setting(place, axis));
  });
  $("left-out").textContent = (data.left_out ?? []).map((text) => `Left out: ${text}.`).join(" ");
}

const NAMES = { "seq-len": "Length", head: "Head", layer: "Layer" };
const nameOf = (axis) => NAMES[axis.name] ?? axis.name;

function setting(place, axis) {
  const id = `set-${place}-${axis.name}`;
  const row = element("div", { class: "setting" }, element("label", { for: id }, nameOf(axis)));
  if (axis.kind === "documents" && data.served) row.append(...typed(place, axis, id));
  else if (!data.served && axis.kind !== "seq-len" && axis.kind !== "parameter") row.append(selected(place, axis, id));
  else row.append(...slid(place, axis, id));
  return row;
}

/** A choice among the values of an axis. */
function selected(place, axis, id) {
  const text = (value) => value || "labels not given";
  const select = element("select", { id }, ...axis.values.map((value) => element("option", { value }, text(value))));
  select.value = valueOf(place, axis);
  select.addEventListener("change", () => choose(place, axis, select.value));
  return select;
}

/** Lengths of documents, as the reader types them; some are offered. */
function typed(place, axis, id) {
  const list = element("datalist", { id: `${id}-choices` }, ...axis.values.filter(Boolean).map((value) => element("option", { value })));
  const field = element("input", { id, type: "text", class: "documents", list: `${id}-choices`, placeholder: "100,200,300", spellcheck: "false", inputmode: "numeric", title: "lengths of the documents, in tokens" });
  field.value = valueOf(place, axis);
  let resting = 0;
  const take = () => choose(place, axis, field.value.trim().replace(/,$/, ""));
  field.addEventListener("input", () => {
    clearTimeout(resting);
    resting = setTimeout(take, 400);
  });
  field.addEventListener("change", () => {
    clearTimeout(resting);
    take();
  });
  return [field, list];
}

/** A slider, with a field for any value where a server is asked. */
function slid(place, axis, id) {
  const chosen = valueOf(place, axis);
  const range = element("input", { id, type: "range", min: 0, max: axis.values.length - 1, step: 1 });
  const said = data.served
    ? element("input", { type: "text", "aria-label": `${nameOf(axis)}, any value`, spellcheck: "false" })
    : element("output", { for: id });
  const tell = (value) => {
    const text = axis.kind === "seq-len" && /^\d+$/.test(value) ? grouped(Number(value)) : value;
    said.value = data.served ? value : text;
    range.setAttribute("aria-valuetext", axis.kind === "seq-len" ? `${text} tokens` : text);
  };
  range.value = Math.max(0, axis.values.indexOf(chosen));
  tell(chosen);
  range.addEventListener("input", () => {
    tell(axis.values[range.value]);
    choose(place, axis, axis.values[range.value]);
  });
  said.addEventListener("change", () => {
    const value = axis.kind === "seq-len" ? tokensOf(said.value) : said.value.trim();
    const at = axis.values.indexOf(value);
    if (at >= 0) range.value = at;
    choose(place, axis, value);
  });
  return [range, said];
}

/** `16k` and `1M` as a spec's commands take them: 1,024 tokens each, and 1,024 times that. */
function tokensOf(text) {
  const found = /^\s*(\d+)\s*([kM])\s*$/.exec(text);
  return found ? String(Number(found[1]) * { k: 1024, M: 1024 ** 2 }[found[2]]) : text.trim().replaceAll(",", "");
}

function choose(place, axis, value) {
  (SHARED.includes(axis.name) ? state.shared : state.own[place])[axis.name] = value;
  update();
}

const MODE_NAMES = { a: "A alone", b: "B alone", side: "A and B side by side", head: "Heads side by side", layer: "Layers side by side" };

function buildModes() {
  const [, b] = pair();
  const beside = (data.layouts[0]?.axes ?? []).filter((axis) => axis.kind === "head" || axis.kind === "layer").map((axis) => [axis.kind, `${nameOf(axis)}s`]);
  const compare = b ? [["a", "A"], ["b", "B"], ["side", "A | B"], ["difference", "Difference"]] : beside.length ? [["a", "One"]] : [];
  const modes = [...compare, ...beside];
  const box = $("modes");
  const focused = document.activeElement?.closest?.("#modes button")?.dataset.mode;
  box.replaceChildren();
  if (!modes.some(([mode]) => mode === state.mode)) state.mode = "a";
  for (const [mode, text] of modes) {
    const button = element("button", { type: "button", "data-mode": mode, "aria-pressed": state.mode === mode, ...(b && MODE_NAMES[mode] && { "aria-label": MODE_NAMES[mode] }) }, text);
    button.addEventListener("click", () => setMode(mode));
    box.append(button);
    if (focused === mode) button.focus();
  }
  $("hold").textContent = state.pinned ? "Let go" : "Hold as B";
}

/** Hold A as it is now for comparison, or let it go. */
function hold() {
  const [a] = pair();
  state.pinned = state.pinned || !a ? null : { ...a, label: `${data.layouts[0].label}, ${settingText()}` };
  if (state.pinned) origins.set(state.pinned, origins.get(a));
  state.mode = state.pinned ? "difference" : "a";
  followSubject();
  buildModes();
  refresh();
}

function settingText() {
  return data.layouts[0].axes.map((axis) => `${nameOf(axis)} ${valueOf(0, axis) || "-"}`).join(", ");
}

async function setMode(mode) {
  state.mode = mode;
  state.only = -1;
  if (mode === "head" || mode === "layer" || state.panels.length) return update();
  followSubject();
  buildModes();
  refresh();
}

// ---- keys ----------------------------------------------------------------------------------------

function moveCursor(di, dj) {
  const view = panes[0].view;
  if (!view) return;
  const unit = unitOf(view, pxOfBlock(view, transform(panes[0], view)));
  const { i, j } = state.cursor ?? { i: 0, j: 0 };
  const [down, across] = state.cursor ? [di * unit, dj * unit] : [0, 0];
  const moved = (at, by, size) => Math.floor(Math.max(0, Math.min(size - 1, at + by)) / unit) * unit;
  state.cursor = { i: moved(i, down, view.rows), j: moved(j, across, view.columns) };
  state.pointer = null;
  reveal();
  showReadout();
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const KEYS = {
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  0: fit,
  PageUp: () => moveCursor(-8, 0),
  PageDown: () => moveCursor(8, 0),
  Home: () => moveCursor(0, -Infinity),
  End: () => moveCursor(0, Infinity),
  Enter: () => whyAt(state.cursor ?? { i: 0, j: 0 }),
  f: () => setField(state.cursor?.i ?? 0),
  " ": play,
  "[": () => step(-1),
  "]": () => step(1),
  c: copySpec,
  m: nextMode,
  "?": () => $("help").showModal(),
  Escape: () => {
    Object.assign(state, { cursor: null, only: -1, pair: null, why: null });
    clearField();
  },
};

/** Ask about the pair under the pointer, or the last query of a block with its first key. */
function whyAt({ i, j }) {
  const { view } = panes[0];
  const [tall, wide] = view.block;
  const last = Math.min(view.tokens, (i + 1) * tall) - 1;
  askWhy(state.pointer?.q ?? last, state.pointer?.k ?? j * wide, state.panels.length ? view : subject());
}

function nextMode() {
  const modes = [...document.querySelectorAll("#modes [data-mode]")].map((b) => b.dataset.mode);
  if (modes.length) setMode(modes[(modes.indexOf(state.mode) + 1) % modes.length]);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) panBy(-arrow[1] * 40, -arrow[0] * 40);
  else if (arrow) moveCursor(...arrow);
  else if (event.key in KEYS) KEYS[event.key]();
  else return;
  event.preventDefault();
}

// ---- pointers ------------------------------------------------------------------------------------

/** Mark what is pointed at, null for nothing. */
function pointTo(at) {
  if (at?.q === state.pointer?.q && at?.k === state.pointer?.k && at?.i === state.cursor?.i && at?.j === state.cursor?.j) return;
  const same = at?.i === state.cursor?.i && at?.j === state.cursor?.j;
  state.pointer = at;
  state.cursor = at && { i: at.i, j: at.j };
  if (!same) drawSoon();
  showReadout();
}

function listenTo(pane) {
  const down = new Map(); // the places of pointers that are down
  let moved = 0;
  const place = (event) => {
    const box = pane.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const point = (event) => pointTo(placeAt(pane, ...place(event)));
  pane.canvas.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, place(event));
    moved = 0;
    pane.canvas.setPointerCapture(event.pointerId);
    $("stage").focus({ preventScroll: true });
  });
  pane.canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return point(event);
    const now = place(event);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    down.set(event.pointerId, now);
    if (other) {
      const spread = (p) => Math.max(1, Math.hypot(p[0] - other[0], p[1] - other[1]));
      zoomBy(spread(now) / spread(before), pane, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (moved > 3) {
      panBy(now[0] - before[0], now[1] - before[1], pane);
    }
  });
  const up = (event) => {
    if (event.type === "pointerup" && down.size === 1 && moved <= 3) {
      point(event);
      if (state.cursor && event.shiftKey && pane.view === subject()) setField(state.cursor.i);
      else if (state.pointer) askWhy(state.pointer.q, state.pointer.k, pane.view);
    }
    down.delete(event.pointerId);
  };
  pane.canvas.addEventListener("pointerup", up);
  pane.canvas.addEventListener("pointercancel", up);
  pane.canvas.addEventListener("pointerleave", (event) => {
    if (down.size || event.pointerType !== "mouse" || document.activeElement === $("stage")) return;
    pointTo(null);
  });
  pane.canvas.addEventListener("dblclick", (event) => zoomBy(2, pane, ...place(event)));
  pane.canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), pane, ...place(event));
    },
    { passive: false },
  );
}

// ---- theme and clipboard -------------------------------------------------------------------------

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `${theme === "dark" ? "Light" : "Dark"} theme`);
  if (panes[0]?.view) draw();
}

async function copySpec() {
  const text = subject()?.spec;
  if (text && !(await copyText(text, $("copy")))) getSelection().selectAllChildren($("spec"));
}

/** Copy a text; the button says whether that was done, and whether it was. */
async function copyText(text, button) {
  button.dataset.name ??= button.textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyByHand(text);
  }
  button.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (button.textContent = button.dataset.name), 1600);
  return done;
}

/** Where there is no clipboard, as in a page that is no file of a secure origin. */
function copyByHand(text) {
  const area = element("textarea", { "aria-hidden": "true" });
  area.value = text;
  area.style.position = "fixed";
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
