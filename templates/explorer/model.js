// The data that the compiler made, and what the reader has chosen of it. Nothing is lowered here.

const data = JSON.parse(document.getElementById("data").textContent);
const SHARED = ["seq-len", "head", "layer"]; // axes that two layouts have in common
const $ = (id) => document.getElementById(id);

const state = {
  shared: {}, // value by axis
  own: [], // for each layout: value by parameter
  shown: [], // for each layout: its last view that means something
  problems: [], // for each layout: why the chosen setting has no view
  pinned: null, // a view held for comparison
  mode: "a", // a, b, side or difference
  cursor: null, // {i, j}
  only: -1, // the one term that is drawn strongly
  field: null, // a receptive field, as `follow` finds it
  layer: 0,
  zoom: { scale: 1, x: 0, y: 0 }, // relative to the picture that fits
};

function valueOf(place, axis) {
  return (SHARED.includes(axis.name) ? state.shared : state.own[place])[axis.name];
}

/** Begin with the first setting; after a reload, keep what still exists. */
function takeSettings() {
  data.layouts.forEach((layout, place) => {
    state.own[place] ??= {};
    for (const axis of layout.axes) {
      const chosen = SHARED.includes(axis.name) ? state.shared : state.own[place];
      const kept = axis.values.includes(chosen[axis.name]) || (data.served && axis.name in chosen);
      if (!kept) chosen[axis.name] = axis.values[axis.start];
    }
    const names = layout.axes.map((axis) => axis.name);
    for (const name of Object.keys(state.own[place])) {
      if (!names.includes(name)) delete state.own[place][name];
    }
  });
}

/** The view of a layout at the chosen setting: held here, or asked of the server. */
async function viewOf(place) {
  const layout = data.layouts[place];
  const values = layout.axes.map((axis) => valueOf(place, axis));
  const key = values.join("|");
  if (key in layout.keys) return layout.views[layout.keys[key]];
  if (!data.served) {
    const message = "this setting is not in the file, which would be too large";
    return { errors: [{ message, severity: "error", code: "", hint: "bslang explorer --serve asks the compiler" }] };
  }
  const query = new URLSearchParams({ layout: place });
  layout.axes.forEach((axis, at) => query.append(axis.name, values[at]));
  const view = await ask(`view?${query}`);
  if (!view.lost) {
    layout.keys[key] = layout.views.length;
    layout.views.push(view);
  }
  return view;
}

async function ask(path) {
  try {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(answer.status);
    return await answer.json();
  } catch {
    const message = "the server does not answer; start `bslang explorer --serve` again";
    return { lost: true, errors: [{ message, severity: "error", code: "", hint: "" }] };
  }
}

const decoded = new WeakMap();

/** The runs of a view by row: [start, stop, look, start, stop, look, ...]. */
function rowsOf(view) {
  if (decoded.has(view)) return decoded.get(view);
  const rows = [];
  for (let at = 0; at < view.runs.length; ) {
    const row = [];
    let count = view.runs[at++];
    for (let column = 0; count > 0; count -= 1, at += 3) {
      const start = column + view.runs[at];
      column = start + view.runs[at + 1];
      row.push(start, column, view.runs[at + 2]);
    }
    rows.push(row);
  }
  decoded.set(view, rows);
  return rows;
}

/** The look of a block, -1 where it is empty. */
function lookAt(view, i, j) {
  const row = rowsOf(view)[i] ?? [];
  let low = 0;
  let high = row.length / 3;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row[3 * middle + 1] <= j) low = middle + 1;
    else high = middle;
  }
  return 3 * low < row.length && row[3 * low] <= j ? row[3 * low + 2] : -1;
}

/** The stretches of a row of two views, each with whether A and B have it: [start, stop, 1 | 2 | 3]. */
function compared(a, b, i) {
  const edges = new Map();
  for (const [view, bit] of [[a, 1], [b, 2]]) {
    const row = rowsOf(view)[i] ?? [];
    for (let at = 0; at < row.length; at += 3) {
      edges.set(row[at], (edges.get(row[at]) ?? 0) ^ bit);
      edges.set(row[at + 1], (edges.get(row[at + 1]) ?? 0) ^ bit);
    }
  }
  const found = [];
  let has = 0;
  let start = 0;
  for (const column of [...edges.keys()].sort((x, y) => x - y)) {
    if (has && column > start) found.push(start, column, has);
    has ^= edges.get(column);
    start = column;
  }
  return found;
}

/** The two views that are compared; the second is null where there is none of the same grid. */
function pair() {
  const a = state.shown[0] ?? null;
  const b = state.pinned ?? state.shown[1] ?? null;
  return [a, b];
}

/** The view that is drawn and described: B where it is drawn alone. */
function subject() {
  const [a, b] = pair();
  return state.mode === "b" && b ? b : a;
}

/** Its letter, where there are two. */
const letter = () => (pair()[1] ? (state.mode === "b" ? "B" : "A") : "");

function comparable(a, b) {
  return a && b && a.rows === b.rows && a.columns === b.columns && a.tokens === b.tokens;
}

/** The names of what is compared. */
function labels() {
  const second = state.pinned ? `${state.pinned.label} (held)` : data.layouts[1]?.label;
  return [data.layouts[0]?.label ?? "", second ?? ""];
}
