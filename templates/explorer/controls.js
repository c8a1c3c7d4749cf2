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

function setting(place, axis) {
  const id = `set-${place}-${axis.name}`;
  const row = element("div", { class: "setting" }, element("label", { for: id }, NAMES[axis.name] ?? axis.name));
  const chosen = valueOf(place, axis);
  if (!data.served && (axis.kind === "head" || axis.kind === "layer")) {
    const select = element("select", { id }, ...axis.values.map((value) => element("option", { value }, value)));
    select.value = chosen;
    select.addEventListener("change", () => choose(place, axis, select.value));
    row.append(select);
    return row;
  }
  const range = element("input", { id, type: "range", min: 0, max: axis.values.length - 1, step: 1 });
  const said = data.served
    ? element("input", { type: "text", "aria-label": `${NAMES[axis.name] ?? axis.name}, any value`, spellcheck: "false" })
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
    const at = axis.values.indexOf(said.value.trim());
    if (at >= 0) range.value = at;
    choose(place, axis, said.value.trim());
  });
  row.append(range, said);
  return row;
}

function choose(place, axis, value) {
  (SHARED.includes(axis.name) ? state.shared : state.own[place])[axis.name] = value;
  update();
}

function buildModes() {
  const [, b] = pair();
  const modes = [["a", "A"], ["b", "B"], ["side", "A | B"], ["difference", "Difference"]];
  const names = { a: "A alone", b: "B alone", side: "A and B side by side" };
  const box = $("modes");
  const focused = document.activeElement?.closest?.("#modes button")?.dataset.mode;
  box.replaceChildren();
  if (!b) state.mode = "a";
  for (const [mode, text] of b ? modes : []) {
    const button = element("button", { type: "button", "data-mode": mode, "aria-pressed": state.mode === mode, ...(names[mode] && { "aria-label": names[mode] }) }, text);
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
  state.mode = state.pinned ? "difference" : "a";
  followSubject();
  buildModes();
  refresh();
}

function settingText() {
  return data.layouts[0].axes.map((axis) => `${NAMES[axis.name] ?? axis.name} ${valueOf(0, axis)}`).join(", ");
}

function setMode(mode) {
  state.mode = mode;
  state.only = -1;
  followSubject();
  buildModes();
  refresh();
}

// ---- keys ----------------------------------------------------------------------------------------

function moveCursor(di, dj) {
  const view = panes[0].view;
  if (!view) return;
  const { i, j } = state.cursor ?? { i: 0, j: 0 };
  const [down, across] = state.cursor ? [di, dj] : [0, 0];
  state.cursor = {
    i: Math.max(0, Math.min(view.rows - 1, i + down)),
    j: Math.max(0, Math.min(view.columns - 1, j + across)),
  };
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
  Enter: () => setField(state.cursor?.i ?? 0),
  " ": play,
  "[": () => step(-1),
  "]": () => step(1),
  c: copySpec,
  m: nextMode,
  "?": () => $("help").showModal(),
  Escape: () => {
    Object.assign(state, { cursor: null, only: -1 });
    clearField();
  },
};

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

function listenTo(pane) {
  const down = new Map(); // the places of pointers that are down
  let moved = 0;
  const place = (event) => {
    const box = pane.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const point = (event) => {
    const block = blockAt(pane, ...place(event));
    if (block?.i === state.cursor?.i && block?.j === state.cursor?.j) return;
    state.cursor = block;
    draw();
    showReadout();
  };
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
      if (state.cursor && pane.view === subject()) setField(state.cursor.i);
    }
    down.delete(event.pointerId);
  };
  pane.canvas.addEventListener("pointerup", up);
  pane.canvas.addEventListener("pointercancel", up);
  pane.canvas.addEventListener("pointerleave", (event) => {
    if (down.size || event.pointerType !== "mouse" || document.activeElement === $("stage")) return;
    state.cursor = null;
    draw();
    showReadout();
  });
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
  if (panes[0].view) draw();
}

async function copySpec() {
  const text = subject()?.spec;
  if (!text) return;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyByHand(text);
  }
  $("copy").textContent = done ? "Copied" : "Press Ctrl+C";
  if (!done) getSelection().selectAllChildren($("spec"));
  setTimeout(() => ($("copy").textContent = "Copy"), 1600);
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
