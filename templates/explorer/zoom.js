// Zoom and pan, the same in all panes.

/** Zoom about a place of a pane, in px. */
function zoomBy(factor, pane = panes[0], x, y) {
  const view = pane?.view;
  if (!view) return;
  const { left, top } = frameOf(pane.size ?? {});
  const { width, height } = room(pane);
  const [across, down] = [(x ?? left + width / 2) - left, (y ?? top + height / 2) - top];
  const most = Math.max(1, (view.tokens / Math.max(...view.block)) * 0.9); // a block then fills the picture
  const scale = Math.max(1, Math.min(most, state.zoom.scale * factor));
  const by = scale / state.zoom.scale;
  state.zoom.x = across / width - (across / width - state.zoom.x) * by;
  state.zoom.y = down / height - (down / height - state.zoom.y) * by;
  state.zoom.scale = scale;
  clampPan();
  if (x !== undefined && state.cursor) pointTo(placeAt(pane, x, y)); // cells may have another size now
  drawSoon();
}

/** Move the picture by px of a pane. */
function panBy(dx, dy, pane = panes[0]) {
  if (!pane?.view) return;
  state.zoom.x += dx / room(pane).width;
  state.zoom.y += dy / room(pane).height;
  clampPan();
  drawSoon();
}

function fit() {
  state.zoom = { scale: 1, x: 0, y: 0 };
  clampPan();
  draw();
}

/** Keep the picture in sight: it lies in the middle of the side that has room, and covers the other. */
function clampPan() {
  if (!panes[0]) return;
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
  const [pane] = panes;
  if (!pane?.view || !state.cursor) return;
  const t = transform(pane, pane.view);
  const { left, top } = frameOf(pane.size);
  const { width, height } = room(pane);
  const move = (place, side, start, free) => Math.max(0, start - place) - Math.max(0, place + Math.min(side, free) - start - free);
  const [tall, wide] = pane.view.block.map((side) => side * t.scale * unitOf(pane.view, pxOfBlock(pane.view, t)));
  const [i, j] = [state.cursor.i, state.cursor.j].map((at, axis) => at * pane.view.block[axis] * t.scale);
  panBy(move(t.x + j, wide, left, width), move(t.y + i, tall, top, height));
}
