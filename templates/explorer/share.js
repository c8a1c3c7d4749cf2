// The state in the address, to share: length, head, parameters, documents, zoom, what is drawn, an edited spec.

let remembering = 0;
let restored = false; // before the address is read, nothing is written to it

/** Write the state into the address, once it rests. */
function remember() {
  if (!restored) return;
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    try {
      history.replaceState(null, "", `#${fragment()}`);
    } catch {
      // a frame without an address of its own: the state is not kept
    }
  }, 250);
}

/** Write no more: another address is about to be read. */
function forget() {
  restored = false;
  clearTimeout(remembering);
}

/** The tokens in the middle of the picture, as shares of the sequence. */
function middle() {
  const { width, height } = room(panes[0]);
  const side = Math.min(width, height) * state.zoom.scale;
  return [((0.5 - state.zoom.x) * width) / side, ((0.5 - state.zoom.y) * height) / side];
}

/** The state as a query; what is as in the beginning is left out. */
function fragment() {
  const found = new URLSearchParams();
  data.layouts.forEach((layout, place) => {
    for (const axis of layout.axes) {
      const name = SHARED.includes(axis.name) ? axis.name : `${place}.${axis.name}`;
      if (valueOf(place, axis) !== axis.values[axis.start]) found.set(name, valueOf(place, axis));
    }
    const text = edits.get(layout.source.name)?.text;
    if (text !== undefined) found.set(`${place}.spec`, text);
  });
  if (state.mode !== "a") found.set("mode", state.mode);
  if (state.zoom.scale > 1.001) found.set("zoom", [state.zoom.scale, ...middle()].map((number) => Number(number.toPrecision(7))).join(","));
  if (state.pair) found.set("pair", `${state.pair.q},${state.pair.k}`);
  return found.toString().replaceAll("%2C", ",");
}

/** Numbers of a text with commas, null where there are not so many. */
function numbersIn(text, count) {
  const numbers = (text ?? "").split(",").map(Number);
  return text && numbers.length === count && numbers.every(Number.isFinite) ? numbers : null;
}

/** Take the settings of the address, before the first picture. */
function takeAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  data.layouts.forEach((layout, place) => {
    state.own[place] ??= {};
    for (const axis of layout.axes) {
      const name = SHARED.includes(axis.name) ? axis.name : `${place}.${axis.name}`;
      if (found.has(name)) chosenOf(place, axis)[axis.name] = found.get(name);
    }
    if (data.served && found.has(`${place}.spec`)) {
      edits.set(layout.source.name, { text: found.get(`${place}.spec`), errors: [] });
      layout.source.file = layout.source.text;
    }
  });
  return found;
}

/** Take the rest of it, after the first picture. */
async function takePlace(found) {
  const mode = found.get("mode");
  if (mode && [...document.querySelectorAll("#modes [data-mode]")].some((button) => button.dataset.mode === mode)) await setMode(mode);
  const zoom = numbersIn(found.get("zoom"), 3);
  if (zoom && panes[0]?.view) {
    const view = panes[0].view;
    const { width, height } = room(panes[0]);
    state.zoom.scale = Math.max(1, Math.min((view.tokens / Math.max(...view.block)) * 0.9, zoom[0]));
    const side = Math.min(width, height) * state.zoom.scale;
    state.zoom.x = 0.5 - (zoom[1] * side) / width;
    state.zoom.y = 0.5 - (zoom[2] * side) / height;
    clampPan();
    draw();
  }
  const asked = numbersIn(found.get("pair"), 2);
  if (asked) await askWhy(...asked);
  restored = true;
}

/** Copy the address of what is shown. */
function share() {
  const address = `${location.href.split("#")[0]}#${fragment()}`;
  copyText(address, $("share"));
}
