// The picture. Blocks lie at tokens, so that blocks with unequal sides are drawn as they are.
// Everything is drawn by a pen: a canvas, or what writes an SVG (export.js).

const GUTTER = 10; // px around the picture; above and to the left, reached columns and rows are marked in it
const ROOMY = 7; // px of a block from which on it has a border and a hatching
const MASKED = { block: 32, token: 0.5, lines: 6 }; // px from which on masks are drawn, and lines between tokens

const panes = []; // {figure, canvas, caption, view, other, size}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { cell: read("--cell"), card: read("--card"), ink: read("--ink"), accent: read("--accent"), muted: read("--muted"), line: read("--line") };
}

/** px between the edges of a canvas and the picture, where axes are written. */
function frameOf({ width }) {
  const left = 22 + 6.5 * grouped(subject()?.tokens ?? 0).length;
  return width < 420 ? { left, top: 32, right: 18, bottom: GUTTER } : { left: Math.max(60, left), top: 32, right: 50, bottom: 26 };
}

/** px of the picture. */
function room({ size = { width: 320, height: 320 } }) {
  const { left, top, right, bottom } = frameOf(size);
  return { width: size.width - left - right, height: size.height - top - bottom };
}

/** px of a token, and where the picture begins. */
function transform(pane, view) {
  const { width, height } = room(pane);
  const { left, top } = frameOf(pane.size ?? {});
  const scale = (Math.min(width, height) / view.tokens) * state.zoom.scale;
  return { scale, x: left + state.zoom.x * width, y: top + state.zoom.y * height };
}

const pxOfBlock = (view, t) => Math.min(...view.block) * t.scale;

/** The tokens at a place of a canvas, and their block (or the first of their cell); null outside. */
function placeAt(pane, x, y) {
  const view = pane.view;
  if (!view) return null;
  const t = transform(pane, view);
  const [q, k] = [Math.floor((y - t.y) / t.scale), Math.floor((x - t.x) / t.scale)];
  if (q < 0 || k < 0 || q >= view.tokens || k >= view.tokens) return null;
  const unit = unitOf(view, pxOfBlock(view, t));
  const [i, j] = [q / view.block[0], k / view.block[1]].map((at) => Math.floor(at / unit) * unit);
  return { q, k, i, j };
}

/** What each pane shows: [view, the view that it is laid over, caption]. */
function shownInPanes() {
  const [a, b] = pair();
  const [nameA, nameB] = labels();
  if (state.panels.length) return state.panels.map(({ view, caption }) => [view, null, caption]);
  if (state.mode === "b" && b) return [[b, null, nameB]];
  if (state.mode === "side" && b) return [[a, null, nameA], [b, null, nameB]];
  return [[a, state.mode === "difference" && comparable(a, b) ? b : null, ""]];
}

let frameAsked = 0;

/** Draw once before the next frame, however often the reader moves until then. */
function drawSoon() {
  frameAsked ||= requestAnimationFrame(() => {
    frameAsked = 0;
    draw();
  });
}

function draw() {
  const shown = shownInPanes();
  while (panes.length < shown.length) addPane();
  $("stage").dataset.panes = shown.length > 2 ? "many" : shown.length;
  panes.forEach((pane, place) => {
    [pane.view, pane.other, pane.caption.textContent] = shown[place] ?? [null, null, ""];
    pane.figure.hidden = place > 0 && !pane.view;
    if (!pane.view) return;
    fitCanvas(pane, shown.length);
    const c = pane.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, pane.size.width, pane.size.height);
    paint(brushOf(pane, c), pane.view, pane.other);
    pane.canvas.setAttribute("aria-label", describe(pane.view, pane.other));
  });
  drawMap();
  showScale();
  remember();
}

function addPane() {
  const place = panes.length;
  const caption = element("figcaption", { id: `caption${place}` });
  const canvas = element("canvas", { id: `canvas${place}`, role: "img" });
  const figure = element("figure", {}, caption, canvas);
  $("stage").append(figure);
  const pane = { figure, canvas, caption, place };
  panes.push(pane);
  listenTo(pane);
}

function fitCanvas(pane, count) {
  const { canvas } = pane;
  const width = canvas.clientWidth || 320;
  const height = count > 2 ? width : Math.max(240, Math.min(width, window.innerHeight * 0.74));
  const ratio = window.devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across) canvas.width = across;
  if (canvas.height !== down) canvas.height = down;
  pane.size = { width, height };
}

/** What a pen needs to know to draw a pane. */
function brushOf(pane, c) {
  const { view, size } = pane;
  const t = transform(pane, view);
  const frame = frameOf(size);
  const [tall, wide] = view.block.map((side) => side * t.scale);
  const side = view.tokens * t.scale; // the last blocks may be short
  const edges = {
    left: Math.max(frame.left, t.x),
    top: Math.max(frame.top, t.y),
    right: Math.min(size.width - frame.right, t.x + side),
    bottom: Math.min(size.height - frame.bottom, t.y + side),
  };
  const seen = (from, to, start, px, most) => [Math.max(0, Math.floor((from - start) / px)), Math.min(most, Math.ceil((to - start) / px))];
  return {
    c, ink: colours(), t, view, tall, wide, side, frame, size, ...edges,
    ratio: window.devicePixelRatio || 1,
    least: 0.75, // px: what is smaller is drawn so large, to be seen
    rows: seen(edges.top, edges.bottom, t.y, tall, view.rows),
    columns: seen(edges.left, edges.right, t.x, wide, view.columns),
    level: levelOf(view, pxOfBlock(view, t)),
    roomy: Math.min(tall, wide) >= ROOMY,
    masked: Math.min(tall, wide) >= MASKED.block && t.scale >= MASKED.token,
  };
}

function paint(brush, view, other) {
  const { c, ink } = brush;
  clipped(brush, 0);
  c.fillStyle = ink.cell;
  c.fillRect(brush.left, brush.top, brush.right - brush.left, brush.bottom - brush.top);
  if (brush.level >= 0 && !other) paintCells(brush, view);
  else paintRows(brush, view, other);
  if (brush.roomy) paintLines(brush, brush.tall, brush.wide, Math.min(brush.tall, brush.wide) > 14 ? 1.5 : 0.75);
  if (brush.masked && brush.t.scale >= MASKED.lines) paintLines(brush, brush.t.scale, brush.t.scale, 0.5);
  if (state.cursor) paintCursor(brush);
  c.restore();
  if (state.cursor) paintFrame(brush);
  if (state.pair) paintPair(brush);
  paintGutters(brush, view);
  paintAxes(brush, view);
}

/** Draw inside the picture only, and so many px around it, until `restore`. */
function clipped({ c, left, top, right, bottom }, around) {
  c.save();
  c.beginPath();
  c.rect(left - around, top - around, right - left + 2 * around, bottom - top + 2 * around);
  c.clip();
}

function paintRows(brush, view, other) {
  if (brush.masked && !other) wantMasks(view, brush.rows, brush.columns);
  for (let i = brush.rows[0]; i < brush.rows[1]; i += 1) {
    const row = other ? compared(view, other, i) : rowsOf(view)[i];
    for (let at = 0; at < row.length; at += 3) {
      if (row[at] < brush.columns[1] && row[at + 1] > brush.columns[0]) paintRun(brush, i, row[at], row[at + 1], row[at + 2], other);
    }
  }
}

/** Blocks as cells of many. The paler, the emptier. Where cells of the level are on their way, coarser ones stand. */
function paintCells(brush, view) {
  const { rows, columns, level } = brush;
  const { coarse } = known(view);
  if (brush.masked) wantMasks(view, rows, columns);
  const tiles = [...tilesIn(view, level, rows, columns)];
  const missing = tiles.some((tile) => !tile.rows);
  if (missing) paintTile(brush, coarse.level, { rows: coarse.rows, top: 0, left: 0 });
  for (const tile of tiles) {
    if (!tile.rows) continue;
    if (missing) wipe(brush, tile, level);
    paintTile(brush, level, tile);
  }
  brush.c.globalAlpha = 1;
}

/** The cells of a tile that are in sight. */
function paintTile(brush, level, { rows: cells, top, left }) {
  const { c, t, rows } = brush;
  const unit = 2 ** level;
  const [tall, wide, area] = [brush.tall * unit, brush.wide * unit, unit * unit];
  const last = Math.min(cells.length, Math.ceil(rows[1] / unit) - top);
  for (let i = Math.max(0, Math.floor(rows[0] / unit) - top); i < last; i += 1) {
    const row = cells[i];
    for (let run = 0; run < row.length; run += 5) {
      const [start, stop, term, partial] = [left + row[run], left + row[run + 1], row[run + 2], row[run + 4]];
      if (level === 0) {
        paintRun(brush, top + i, start, stop, 2 * term + (partial ? 1 : 0), null);
        continue;
      }
      const x = Math.max(brush.left - 1, t.x + start * wide);
      const right = Math.min(brush.right + 1, t.x + stop * wide);
      if (right <= x) continue;
      const full = row[run + 3] + partial / 2;
      c.globalAlpha = state.only < 0 || state.only === term ? 0.32 + 0.68 * Math.sqrt(full / area) : 0.08;
      c.fillStyle = colourOf(term);
      c.fillRect(x, t.y + (top + i) * tall, Math.max(right - x, brush.least), Math.max(tall, brush.least));
    }
  }
}

/** Take away what is drawn of coarser cells, where finer ones are known. */
function wipe({ c, ink, t, tall, wide, ...edges }, { top, left }, level) {
  const unit = 2 ** level;
  const [x, y] = [Math.max(edges.left, t.x + left * unit * wide), Math.max(edges.top, t.y + top * unit * tall)];
  const right = Math.min(edges.right, t.x + (left + TILE) * unit * wide);
  const bottom = Math.min(edges.bottom, t.y + (top + TILE) * unit * tall);
  if (right <= x || bottom <= y) return;
  c.globalAlpha = 1;
  c.fillStyle = ink.cell;
  c.fillRect(x, y, right - x, bottom - y);
}

/** How strongly a run is drawn; a column of its own may be drawn more strongly than the rest. */
function strength(view, i, look, other) {
  if (state.field?.view === view && !other) return state.field.rowAfter[i] >= 0 && state.field.rowAfter[i] < state.layer ? 1 : 0.22;
  if (state.only >= 0 && !other && look >> 1 !== state.only) return 0.15;
  if (state.cursor && state.cursor.i !== i && !state.pair) return 0.4;
  return 1;
}

function paintRun(brush, i, start, stop, look, other) {
  const alpha = strength(brush.view, i, look, other);
  if (brush.masked && look % 2 === 1 && !other) {
    const [from, to] = [Math.max(start, brush.columns[0]), Math.min(stop, brush.columns[1])];
    for (let j = from; j < to; j += 1) paintPartial(brush, i, j, look, state.cursor?.j === j ? Math.max(alpha, 0.8) : alpha);
    return;
  }
  paintBlocks(brush, i, start, stop, look, other, alpha);
  const j = state.cursor?.j;
  if (alpha === 0.4 && start <= j && j < stop) paintBlocks(brush, i, j, j + 1, look, other, 1);
}

function paintBlocks(brush, i, start, stop, look, other, alpha) {
  const { c, ink, t, tall, wide, roomy } = brush;
  const left = Math.max(brush.left - 1, t.x + start * wide);
  const right = Math.min(brush.right + 1, t.x + stop * wide);
  if (right <= left) return;
  const top = t.y + i * tall;
  const high = Math.max(tall, brush.least);
  const partial = !other && look % 2 === 1;
  c.globalAlpha = partial ? alpha * 0.5 : alpha;
  c.fillStyle = other ? [null, data.palette[0], data.palette[1], ink.muted][look] : colourOf(look >> 1);
  c.fillRect(left, top, Math.max(right - left, brush.least), high);
  if (partial && roomy) {
    c.globalAlpha = alpha;
    hatch(c, left, top, right - left, high);
  }
  c.globalAlpha = 1;
}

/** A partial block with its pairs, one by one; hatched, where they are not known. */
function paintPartial(brush, i, j, look, alpha) {
  const { c, t, tall, wide, view } = brush;
  const bits = maskOf(view, i, j);
  if (!bits) return paintBlocks(brush, i, j, j + 1, look, null, alpha);
  const [x, y, px] = [t.x + j * wide, t.y + i * tall, t.scale];
  const whole = (at) => Math.round(at * brush.ratio) / brush.ratio; // no seams between rows
  c.fillStyle = colourOf(look >> 1);
  c.globalAlpha = alpha * 0.16;
  c.fillRect(x, y, wide, tall);
  c.globalAlpha = alpha;
  const across = view.block[1];
  let at = 0;
  bits.forEach((length, place) => {
    const end = at + length;
    // Stretches of whole rows are one rectangle.
    while (place % 2 === 1 && at < end) {
      const [row, column] = [Math.floor(at / across), at % across];
      const many = column === 0 && end - at >= across ? Math.floor((end - at) / across) : 1;
      const stop = many > 1 ? at + many * across : Math.min(end, (row + 1) * across);
      const pairs = many > 1 ? across : stop - at;
      const [left, top] = [whole(x + column * px), whole(y + row * px)];
      c.fillRect(left, top, whole(x + (column + pairs) * px) - left, whole(y + (row + many) * px) - top);
      at = stop;
    }
    at = end;
  });
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
  for (let x = -high; x < wide; x += gap) {
    c.moveTo(left + x, top + high);
    c.lineTo(left + x + high, top);
  }
  c.strokeStyle = c.fillStyle;
  c.lineWidth = Math.min(2, gap / 3);
  c.stroke();
  c.restore();
}

/** Lines between blocks, or between tokens. */
function paintLines({ c, ink, t, left, top, right, bottom }, tall, wide, width) {
  c.strokeStyle = ink.card;
  c.lineWidth = width;
  c.beginPath();
  for (let i = Math.floor((top - t.y) / tall); t.y + i * tall <= bottom; i += 1) {
    c.moveTo(left, t.y + i * tall);
    c.lineTo(right, t.y + i * tall);
  }
  for (let j = Math.floor((left - t.x) / wide); t.x + j * wide <= right; j += 1) {
    c.moveTo(t.x + j * wide, top);
    c.lineTo(t.x + j * wide, bottom);
  }
  c.stroke();
}
