// The picture. Blocks lie at tokens, so that blocks with unequal sides are drawn as they are.

const GUTTER = 10; // px around; above and to the left, reached columns and rows are marked in it
const ROOMY = 7; // px of a block from which on it has a border and a hatching

const panes = [0, 1].map((place) => ({ canvas: $(`canvas${place}`), caption: $(`caption${place}`), place }));

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { cell: read("--cell"), card: read("--card"), ink: read("--ink"), accent: read("--accent"), muted: read("--muted") };
}

/** px inside the gutter. */
function room({ size = { width: 320, height: 320 } }) {
  return { width: size.width - 2 * GUTTER, height: size.height - 2 * GUTTER };
}

/** px of a token, and where the picture begins. */
function transform(pane, view) {
  const { width, height } = room(pane);
  const scale = (Math.min(width, height) / view.tokens) * state.zoom.scale;
  return { scale, x: GUTTER + state.zoom.x * width, y: GUTTER + state.zoom.y * height };
}

/** The block at a place of a canvas, null outside. */
function blockAt(pane, x, y) {
  const view = pane.view;
  if (!view) return null;
  const t = transform(pane, view);
  const i = Math.floor((y - t.y) / t.scale / view.block[0]);
  const j = Math.floor((x - t.x) / t.scale / view.block[1]);
  return i >= 0 && j >= 0 && i < view.rows && j < view.columns ? { i, j } : null;
}

function draw() {
  const [a, b] = pair();
  const [nameA, nameB] = labels();
  const side = state.mode === "side" && b;
  $("second").hidden = !side;
  const views = state.mode === "b" && b ? [b] : side ? [a, b] : [a];
  const names = state.mode === "b" ? [nameB] : side ? [nameA, nameB] : [""];
  panes.forEach((pane, place) => {
    pane.view = views[place] ?? null;
    pane.caption.textContent = pane.view ? (names[place] ?? "") : "";
    if (!pane.view) return;
    const other = state.mode === "difference" && comparable(a, b) ? b : null;
    paint(pane, other);
    pane.canvas.setAttribute("aria-label", describe(pane.view, other));
  });
}

function paint(pane, other) {
  const { canvas, view } = pane;
  const width = canvas.clientWidth || 320;
  const height = Math.max(160, Math.min(width, window.innerHeight * 0.68));
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  pane.size = { width, height };
  const c = canvas.getContext("2d");
  const ink = colours();
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  const t = transform(pane, view);
  const tall = view.block[0] * t.scale;
  const wide = view.block[1] * t.scale;
  const side = view.tokens * t.scale; // the last blocks may be short
  const edges = { right: Math.min(width - GUTTER, t.x + side), bottom: Math.min(height - GUTTER, t.y + side) };
  const brush = { c, ink, t, view, tall, wide, side, ...edges, roomy: Math.min(tall, wide) >= ROOMY };
  clipped(brush, 0);
  c.fillStyle = ink.cell;
  c.fillRect(t.x, t.y, side, side);
  const first = Math.max(0, Math.floor((GUTTER - t.y) / tall));
  const last = Math.min(view.rows, Math.ceil((edges.bottom - t.y) / tall));
  for (let i = first; i < last; i += 1) {
    const row = other ? compared(view, other, i) : rowsOf(view)[i];
    for (let at = 0; at < row.length; at += 3) paintRun(brush, i, row[at], row[at + 1], row[at + 2], other);
  }
  if (brush.roomy) paintLines(brush, view, first, last);
  if (state.cursor) paintCursor(brush);
  c.restore();
  if (state.cursor) paintFrame(brush);
  paintGutters(brush, view, first, last);
}

/** Draw inside the picture only, and so many px around it, until `restore`. */
function clipped({ c, t, right, bottom }, around) {
  const left = Math.max(GUTTER, t.x) - around;
  const top = Math.max(GUTTER, t.y) - around;
  c.save();
  c.beginPath();
  c.rect(left, top, right + around - left, bottom + around - top);
  c.clip();
}

/** How strongly a run is drawn; a column of its own may be drawn more strongly than the rest. */
function strength(view, i, look, other) {
  if (state.field?.view === view && !other) return state.field.rowAfter[i] >= 0 && state.field.rowAfter[i] < state.layer ? 1 : 0.22;
  if (state.only >= 0 && !other && look >> 1 !== state.only) return 0.15;
  if (state.cursor && state.cursor.i !== i) return 0.4;
  return 1;
}

function paintRun(brush, i, start, stop, look, other) {
  const alpha = strength(brush.view, i, look, other);
  paintBlocks(brush, i, start, stop, look, other, alpha);
  const j = state.cursor?.j;
  if (alpha === 0.4 && start <= j && j < stop) paintBlocks(brush, i, j, j + 1, look, other, 1);
}

function paintBlocks(brush, i, start, stop, look, other, alpha) {
  const { c, ink, t, tall, wide, roomy } = brush;
  const left = Math.max(GUTTER - 1, t.x + start * wide);
  const right = Math.min(brush.right + 1, t.x + stop * wide);
  if (right <= left) return;
  const top = t.y + i * tall;
  c.globalAlpha = alpha;
  const partial = !other && look % 2 === 1;
  c.fillStyle = other ? [null, data.palette[0], data.palette[1], ink.muted][look] : data.palette[(look >> 1) % data.palette.length];
  const high = Math.max(tall, 0.75);
  if (partial) {
    c.globalAlpha = alpha * 0.5;
    c.fillRect(left, top, Math.max(right - left, 0.75), high);
    if (roomy) {
      c.globalAlpha = alpha;
      hatch(c, left, top, right - left, high);
    }
  } else {
    c.fillRect(left, top, Math.max(right - left, 0.75), high);
  }
  c.globalAlpha = 1;
}

/** Lines from the lower left to the upper right: partial blocks are told apart without colour, too. */
function hatch(c, left, top, wide, high) {
  c.save();
  c.beginPath();
  c.rect(left, top, wide, high);
  c.clip();
  c.beginPath();
  const gap = Math.max(4, Math.min(9, high / 3));
  // Lines go on from block to block, wherever the picture is moved to.
  for (let x = -high; x < wide; x += gap) {
    c.moveTo(left + x, top + high);
    c.lineTo(left + x + high, top);
  }
  c.strokeStyle = c.fillStyle;
  c.lineWidth = Math.min(2, gap / 3);
  c.stroke();
  c.restore();
}

function paintLines({ c, ink, t, tall, wide, side, right, bottom }, view, first, last) {
  c.strokeStyle = ink.card;
  c.lineWidth = Math.min(tall, wide) > 14 ? 1.5 : 0.75;
  c.beginPath();
  for (let i = first; i <= last; i += 1) {
    c.moveTo(Math.max(0, t.x), t.y + i * tall);
    c.lineTo(Math.min(right, t.x + side), t.y + i * tall);
  }
  const from = Math.max(0, Math.floor((GUTTER - t.x) / wide));
  for (let j = from; j <= view.columns && t.x + j * wide <= right; j += 1) {
    c.moveTo(t.x + j * wide, Math.max(0, t.y));
    c.lineTo(t.x + j * wide, Math.min(bottom, t.y + side));
  }
  c.stroke();
}

/** The row and the column of the cursor. */
function paintCursor({ c, ink, t, tall, wide, side }) {
  const { i, j } = state.cursor;
  c.globalAlpha = 0.1;
  c.fillStyle = ink.ink;
  c.fillRect(t.x, t.y + i * tall, side, Math.max(tall, 1));
  c.fillRect(t.x + j * wide, t.y, Math.max(wide, 1), side);
  c.globalAlpha = 1;
}

/** The block of the cursor, framed, at the edge of the picture too. */
function paintFrame(brush) {
  const { c, ink, t, tall, wide, side } = brush;
  const [across, down] = [state.cursor.j * wide, state.cursor.i * tall];
  const size = (block, from) => Math.max(2, Math.min(block, side - from)) + 2;
  clipped(brush, 2);
  c.strokeStyle = ink.ink;
  c.lineWidth = 2;
  c.strokeRect(t.x + across - 1, t.y + down - 1, size(wide, across), size(tall, down));
  c.restore();
}

/** Above: the columns that the row attends to, or that have reached the start. Left: the rows that see. */
function paintGutters({ c, ink, t, tall, wide, ...edges }, view, first, last) {
  const thick = GUTTER - 4;
  const above = (j, alpha) => {
    c.globalAlpha = alpha;
    const left = Math.max(GUTTER, t.x + j * wide);
    const right = Math.min(edges.right, t.x + (j + 1) * wide);
    if (right > left) c.fillRect(left, Math.max(0, t.y - GUTTER), Math.max(right - left - (wide > 4 ? 1 : 0), 0.75), thick);
  };
  const beside = (i, alpha) => {
    c.globalAlpha = alpha;
    const top = Math.max(GUTTER, t.y + i * tall);
    const bottom = Math.min(edges.bottom, t.y + (i + 1) * tall);
    if (bottom > top) c.fillRect(Math.max(0, t.x - GUTTER), top, thick, Math.max(bottom - top - (tall > 4 ? 1 : 0), 0.75));
  };
  c.fillStyle = ink.accent;
  if (state.field && state.field.view === view) {
    // The later, the paler.
    const pale = (layer) => 1 - (0.7 * layer) / Math.max(1, state.field.last);
    for (let j = 0; j < view.columns; j += 1) {
      const layer = columnReached(state.field, j);
      if (layer >= 0) above(j, pale(layer));
    }
    beside(state.field.from, 1);
  } else if (state.cursor) {
    const { i, j } = state.cursor;
    const row = rowsOf(view)[i] ?? [];
    for (let at = 0; at < row.length; at += 3) {
      for (let column = row[at]; column < row[at + 1]; column += 1) above(column, 1);
    }
    for (let sees = first; sees < last; sees += 1) if (lookAt(view, sees, j) >= 0) beside(sees, 1);
  }
  c.globalAlpha = 1;
}

// ---- zoom and pan --------------------------------------------------------------------------------

/** Zoom about a place of a pane, in px. */
function zoomBy(factor, pane = panes[0], x = (pane.size?.width ?? 0) / 2, y = (pane.size?.height ?? 0) / 2) {
  const view = pane.view;
  if (!view) return;
  const most = Math.max(1, (view.tokens / Math.max(...view.block)) * 0.12);
  const scale = Math.max(1, Math.min(most, state.zoom.scale * factor));
  const by = scale / state.zoom.scale;
  const { width, height } = room(pane);
  state.zoom.x = (x - GUTTER) / width - ((x - GUTTER) / width - state.zoom.x) * by;
  state.zoom.y = (y - GUTTER) / height - ((y - GUTTER) / height - state.zoom.y) * by;
  state.zoom.scale = scale;
  clampPan();
  draw();
}

/** Move the picture by px of a pane. */
function panBy(dx, dy, pane = panes[0]) {
  if (!pane.view) return;
  state.zoom.x += dx / room(pane).width;
  state.zoom.y += dy / room(pane).height;
  clampPan();
  draw();
}

function fit() {
  state.zoom = { scale: 1, x: 0, y: 0 };
  clampPan();
  draw();
}

/** Keep the picture in sight: it lies in the middle of the side that has room, and covers the other. */
function clampPan() {
  const { width, height } = room(panes[0]);
  const side = Math.min(width, height) * state.zoom.scale;
  for (const [axis, free] of [["x", width], ["y", height]]) {
    const share = side / free;
    state.zoom[axis] = share <= 1 ? (1 - share) / 2 : Math.min(0, Math.max(1 - share, state.zoom[axis]));
  }
  $("stage").style.touchAction = state.zoom.scale > 1 ? "none" : "pan-y";
}

/** Move the picture as far as the cursor needs to be in it. */
function reveal() {
  const pane = panes[0];
  if (!pane.view || !state.cursor) return;
  const t = transform(pane, pane.view);
  const move = (place, side, free) => Math.max(0, GUTTER - place) - Math.max(0, place + side - GUTTER - free);
  const [tall, wide] = pane.view.block.map((side) => side * t.scale);
  panBy(
    move(t.x + state.cursor.j * wide, wide, room(pane).width),
    move(t.y + state.cursor.i * tall, tall, room(pane).height),
  );
}
