// The data that the compiler made, and what the reader has chosen of it. Nothing is lowered here.

const data = JSON.parse(document.getElementById("data").textContent);
const SHARED = ["seq-len", "head", "layer"]; // axes that two layouts have in common
const $ = (id) => document.getElementById(id);

const state = {
  shared: {}, // value by axis
  own: [], // for each layout: value by its other axes
  shown: [], // for each layout: its last view without errors
  problems: [], // for each layout: why the chosen setting has no view
  panels: [], // heads or layers side by side: {view, caption, change}
  pinned: null, // a view held for comparison
  mode: "a", // a, b, side, difference, head or layer
  pointer: null, // {q, k}: the tokens under the pointer
  cursor: null, // {i, j}: a block, the first of a cell where blocks are drawn as cells
  pair: null, // {q, k}: the tokens that `why` is asked about
  only: -1, // the one term that is drawn strongly
  field: null, // a receptive field, as `follow` finds it
  layer: 0,
  zoom: { scale: 1, x: 0, y: 0 }, // relative to the picture that fits
};

const chosenOf = (place, axis) => (SHARED.includes(axis.name) ? state.shared : state.own[place]);

function valueOf(place, axis) {
  return chosenOf(place, axis)[axis.name];
}

/** Whether a value that is no slider's may be chosen: a server is asked, and documents are typed. */
const anyValue = () => data.served;

/** Begin with the first setting; after a reload, keep what still exists. */
function takeSettings() {
  data.layouts.forEach((layout, place) => {
    state.own[place] ??= {};
    for (const axis of layout.axes) {
      const chosen = chosenOf(place, axis);
      const kept = axis.values.includes(chosen[axis.name]) || (anyValue() && axis.name in chosen);
      if (!kept) chosen[axis.name] = axis.values[axis.start];
    }
    const names = layout.axes.map((axis) => axis.name);
    for (const name of Object.keys(state.own[place])) {
      if (!names.includes(name)) delete state.own[place][name];
    }
  });
}

/** The setting of a layout: a value for each of its axes. change: values in place of those chosen. */
function settingOf(place, change = {}) {
  return Object.fromEntries(data.layouts[place].axes.map((axis) => [axis.name, change[axis.name] ?? valueOf(place, axis)]));
}

/** The view of a layout at a setting: held here, or asked of the server. */
async function viewOf(place, change = {}) {
  const layout = data.layouts[place];
  const setting = settingOf(place, change);
  const key = Object.values(setting).join("|");
  const text = layout.draft;
  if (key in layout.keys) return adopted(layout.views[layout.keys[key]], layout, { layout: place, setting, text });
  if (!data.served) {
    const message = "this setting is not in the file, which would be too large";
    return { errors: [{ message, severity: "error", code: "", hint: "bslang explorer --serve asks the compiler" }] };
  }
  const asked = { layout: place, setting, text };
  const view = await ask("view", asked);
  return adopted(view.lost ? view : kept(layout, key, view), layout, asked);
}

/** The view as it is held: equal ones once, so that heads which are alike are told to be. */
function kept(layout, key, view) {
  layout.texts ??= layout.views.map((each) => JSON.stringify(each));
  const text = JSON.stringify(view);
  const equal = view.runs ? layout.texts.indexOf(text) : -1;
  layout.keys[key] = equal < 0 ? layout.views.length : equal;
  if (equal < 0) {
    layout.views.push(view);
    layout.texts.push(text);
  }
  return layout.views[layout.keys[key]];
}

/** What was asked for a view, for the tiles, masks and reasons that are asked next. It is no part of the view. */
const origins = new WeakMap();

function adopted(view, layout, asked) {
  if (view.errors) return view;
  if (!origins.has(view)) origins.set(view, { asked, masks: layout.masks });
  return view;
}

/** Ask the server a question; under `errors` is why there is no answer. */
async function ask(question, values) {
  const options = values && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(values) };
  try {
    const answer = await fetch(question, options);
    if (!answer.ok) throw new Error(answer.status);
    return await answer.json();
  } catch {
    const message = "the server does not answer; start `bslang explorer --serve` again";
    return { lost: true, errors: [{ message, severity: "error", code: "", hint: "", marks: [], file: "" }] };
  }
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
  return a && b && a.rows === b.rows && a.columns === b.columns && a.tokens === b.tokens && a.runs && b.runs;
}

/** The names of what is compared. */
function labels() {
  const second = state.pinned ? `${state.pinned.label} (held)` : data.layouts[1]?.label;
  return [data.layouts[0]?.label ?? "", second ?? ""];
}
