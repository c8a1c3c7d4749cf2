// Around the picture: axes in tokens and in blocks, marks of rows and columns, what is pointed at; the map.

const FONT = "11px system-ui, sans-serif";

/** How many tokens lie between two ticks that have so many px at least. */
function tickStep(view, scale, px) {
  const block = Math.max(...view.block);
  for (let step = 1; step < block; step *= 2) if (step * scale >= px) return step;
  let step = block;
  while (step * scale < px) step *= 2;
  return step;
}

/** A position as an axis writes it: 64k where all ticks are whole thousands of 1,024. */
function tickText(position, step) {
  if (step % 1024 || position % 1024) return grouped(position);
  return position && position % 2 ** 20 === 0 ? `${position / 2 ** 20}M` : position ? `${position / 1024}k` : "0";
}

/** Tokens above and to the left, blocks below and to the right where there is room. */
function paintAxes(brush, view) {
  const { c, ink, t, left, top, right, bottom, frame } = brush;
  c.globalAlpha = 1;
  c.fillStyle = c.strokeStyle = ink.muted;
  c.lineWidth = 1;
  c.font = FONT;
  const steps = [tickStep(view, t.scale, 58), tickStep(view, t.scale, 34)];
  const ticks = (from, to, start, step) => {
    const found = [];
    for (let at = Math.max(0, Math.ceil((from - start) / t.scale / step - 1e-9)) * step; start + at * t.scale <= to + 0.5; at += step) found.push([at, start + at * t.scale]);
    return found;
  };
  c.beginPath();
  c.textAlign = "center";
  c.textBaseline = "bottom";
  for (const [token, x] of ticks(left, right, t.x, steps[0])) {
    c.moveTo(x, top - GUTTER - 4);
    c.lineTo(x, top - GUTTER);
    c.fillText(tickText(token, steps[0]), x, top - GUTTER - 5);
  }
  c.textAlign = "right";
  c.textBaseline = "middle";
  for (const [token, y] of ticks(top, bottom, t.y, steps[1])) {
    c.moveTo(left - GUTTER - 4, y);
    c.lineTo(left - GUTTER, y);
    c.fillText(tickText(token, steps[1]), left - GUTTER - 6, y);
  }
  c.stroke();
  if (frame.bottom <= GUTTER) return;
  const blocks = ([first, last], start, side, step, from, to) => {
    const every = Math.max(1, Math.round(step / side));
    const found = [];
    for (let at = Math.ceil(first / every) * every; at < last; at += every) found.push([at, start + (at + 0.5) * side * t.scale]);
    const inside = found.filter(([, middle]) => middle >= from + 5 && middle <= to - 5);
    return inside.length ? inside : found.slice(0, 1).map(([at]) => [at, (from + to) / 2]); // in the midst of a block
  };
  c.textAlign = "center";
  c.textBaseline = "top";
  for (const [j, x] of blocks(brush.columns, t.x, view.block[1], steps[0], left, right)) {
    c.fillText(grouped(j), x, bottom + 5);
  }
  c.textAlign = "left";
  c.textBaseline = "middle";
  for (const [i, y] of blocks(brush.rows, t.y, view.block[0], steps[1], top, bottom)) {
    c.fillText(grouped(i), right + 6, y);
  }
  c.textAlign = "right";
  c.textBaseline = "bottom";
  c.fillText("tokens", left - GUTTER - 6, top - GUTTER - 5);
  c.textAlign = "left";
  c.textBaseline = "top";
  c.fillText("blocks", right + 6, bottom + 5);
}

/** The row and the column of the cursor. */
function paintCursor(brush) {
  const { c, ink, t, left, top, right, bottom } = brush;
  const { i, j } = state.cursor;
  const unit = 2 ** Math.max(0, brush.level);
  c.globalAlpha = 0.1;
  c.fillStyle = ink.ink;
  c.fillRect(left, t.y + i * brush.tall, right - left, Math.max(brush.tall * unit, 1));
  c.fillRect(t.x + j * brush.wide, top, Math.max(brush.wide * unit, 1), bottom - top);
  c.globalAlpha = 1;
}

/** The block of the cursor, framed, at the edge of the picture too. */
function paintFrame(brush) {
  const { c, ink, t, tall, wide, side } = brush;
  const unit = 2 ** Math.max(0, brush.level);
  const [across, down] = [state.cursor.j * wide, state.cursor.i * tall];
  const size = (block, from) => Math.max(2, Math.min(block * unit, side - from)) + 2;
  clipped(brush, 2);
  c.strokeStyle = ink.ink;
  c.lineWidth = 2;
  c.strokeRect(t.x + across - 1, t.y + down - 1, size(wide, across), size(tall, down));
  c.restore();
}

/** The pair that `why` is asked about: a ring around its tokens. */
function paintPair(brush) {
  const { c, ink, t } = brush;
  const [x, y, radius] = [t.x + (state.pair.k + 0.5) * t.scale, t.y + (state.pair.q + 0.5) * t.scale, Math.max(5, t.scale * 0.75)];
  clipped(brush, 6);
  for (const [colour, width] of [[ink.card, 4], [ink.ink, 2]]) {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.strokeRect(x - radius, y - radius, 2 * radius, 2 * radius);
  }
  c.restore();
}

/** Above: the columns that the row attends to, or that have reached the start. Left: the rows that see. */
function paintGutters(brush, view) {
  const { c, ink, t, tall, wide, rows, columns } = brush;
  if (!rowsOf(view) || brush.level >= 0) return;
  const thick = GUTTER - 4;
  const above = (start, stop, alpha) => {
    c.globalAlpha = alpha;
    const left = Math.max(brush.left, t.x + start * wide);
    const right = Math.min(brush.right, t.x + stop * wide);
    if (right > left) c.fillRect(left, brush.top - GUTTER, Math.max(right - left - (wide > 4 ? 1 : 0), 0.75), thick);
  };
  const beside = (i, alpha) => {
    c.globalAlpha = alpha;
    const top = Math.max(brush.top, t.y + i * tall);
    const bottom = Math.min(brush.bottom, t.y + (i + 1) * tall);
    if (bottom > top) c.fillRect(brush.left - GUTTER, top, thick, Math.max(bottom - top - (tall > 4 ? 1 : 0), 0.75));
  };
  c.fillStyle = ink.accent;
  if (state.field && state.field.view === view) {
    // The later, the paler.
    const pale = (layer) => 1 - (0.7 * layer) / Math.max(1, state.field.last);
    for (let j = columns[0]; j < columns[1]; j += 1) {
      const layer = columnReached(state.field, j);
      if (layer >= 0) above(j, j + 1, pale(layer));
    }
    beside(state.field.from, 1);
  } else if (state.cursor) {
    const { i, j } = state.cursor;
    const row = rowsOf(view)[i] ?? [];
    for (let at = 0; at < row.length; at += 3) above(row[at], row[at + 1], 1);
    for (let sees = rows[0]; sees < rows[1]; sees += 1) if (lookAt(view, sees, j) >= 0) beside(sees, 1);
  }
  c.globalAlpha = 1;
}

// ---- the map -------------------------------------------------------------------------------------

const MAP = 112; // px of the map's side

const drawnMap = { image: document.createElement("canvas"), of: [] };

/** The whole layout in a corner, and what of it is in sight; there is none where all is. */
function drawMap() {
  const [pane] = panes;
  const map = $("map");
  map.hidden = !pane?.view || state.zoom.scale < 1.05 || panes.filter((each) => each.view).length > 2;
  if (map.hidden) return;
  const { view } = pane;
  const ink = colours();
  const ratio = window.devicePixelRatio || 1;
  const of = [view, ink.cell, ratio];
  if (of.some((each, at) => each !== drawnMap.of[at])) paintMap(view, ink, ratio);
  drawnMap.of = of;
  map.width = map.height = MAP * ratio;
  const c = map.getContext("2d");
  c.drawImage(drawnMap.image, 0, 0);
  c.scale(ratio, ratio);
  const { left, top, right, bottom, t } = brushOf(pane, c);
  const scale = MAP / view.tokens / t.scale;
  c.strokeStyle = ink.ink;
  c.lineWidth = 1.5;
  const [x, y, width, height] = [left - t.x, top - t.y, right - left, bottom - top].map((px) => px * scale);
  c.strokeRect(Math.min(MAP - 5, x), Math.min(MAP - 5, y), Math.max(5, width), Math.max(5, height));
}

function paintMap(view, ink, ratio) {
  const { image } = drawnMap;
  image.width = image.height = MAP * ratio;
  const c = image.getContext("2d");
  c.scale(ratio, ratio);
  const t = { x: 0, y: 0, scale: MAP / view.tokens };
  const [tall, wide] = view.block.map((side) => side * t.scale);
  const level = known(view).coarse?.level ?? -1;
  const whole = { left: 0, top: 0, right: MAP, bottom: MAP, rows: [0, view.rows], columns: [0, view.columns] };
  const brush = { c, ink, t, view, tall, wide, level, ratio, roomy: false, masked: false, least: level < 0 ? 0.75 : 0.4, ...whole };
  c.fillStyle = ink.cell;
  c.fillRect(0, 0, MAP, MAP);
  const { cursor, field } = state;
  Object.assign(state, { cursor: null, field: null }); // the map has no marks
  if (level >= 0) paintCells(brush, view);
  else paintRows(brush, view, null);
  Object.assign(state, { cursor, field });
}

/** Bring the place of the map into the middle. */
function goByMap(event) {
  const box = $("map").getBoundingClientRect();
  const [pane] = panes;
  const { width, height } = room(pane);
  const side = Math.min(width, height) * state.zoom.scale;
  state.zoom.x = 0.5 - (((event.clientX - box.left) / box.width) * side) / width;
  state.zoom.y = 0.5 - (((event.clientY - box.top) / box.height) * side) / height;
  clampPan();
  drawSoon();
}
