// The receptive field of a block: a search over the edges that the compiler gave.

/** After how many layers each stretch of tokens has reached the block `from` (of rows); -1 for never. */
function follow(view, from) {
  const rows = rowsOf(view);
  const [tall, wide] = view.block.map((side) => side / view.node);
  const size = Math.ceil(view.tokens / view.node);
  const after = new Int32Array(size).fill(-1);
  const rowAfter = new Int32Array(rows.length).fill(-1); // the layer in which a row is read, less one
  const counts = [1];
  let frontier = [from * tall];
  after[from * tall] = 0;
  for (let layer = 1; frontier.length; layer += 1) {
    const next = [];
    for (const node of frontier) {
      const i = Math.floor(node / tall);
      if (rowAfter[i] >= 0) continue; // the rows of one block see the same
      rowAfter[i] = layer - 1;
      const row = rows[i];
      for (let at = 0; at < row.length; at += 3) {
        const stop = Math.min(row[at + 1] * wide, size);
        for (let seen = row[at] * wide; seen < stop; seen += 1) {
          if (after[seen] < 0) {
            after[seen] = layer;
            next.push(seen);
          }
        }
      }
    }
    if (next.length) counts.push(counts[layer - 1] + next.length);
    frontier = next;
  }
  return { view, from, after, rowAfter, counts, size, last: counts.length - 1 };
}

/** Whether a block column has reached the start by the layer that is shown. */
function columnReached(field, j) {
  const wide = field.view.block[1] / field.view.node;
  for (let node = j * wide; node < Math.min((j + 1) * wide, field.size); node += 1) {
    if (field.after[node] >= 0 && field.after[node] <= state.layer) return field.after[node];
  }
  return -1;
}

function fieldText(field) {
  const reached = field.counts[state.layer];
  const what = field.view.node === field.view.block[0] ? "blocks" : `stretches of ${field.view.node} tokens`;
  const end = state.layer === field.last ? (reached === field.size ? ": all." : ": no more will follow.") : ".";
  const shares = `${grouped(reached)} of ${grouped(field.size)} ${what} (${percent(reached / field.size)})`;
  return `After ${plural(state.layer, "layer")}, block ${field.from} has received from ${shares}${end}`;
}

let timer = 0;

/** Follow the same block in the view that is drawn now. */
function followSubject() {
  const view = subject();
  if (!state.field || state.field.view === view) return;
  const layer = state.layer;
  state.field = view && rowsOf(view) && state.field.from < view.rows ? follow(view, state.field.from) : null;
  state.layer = Math.min(layer, state.field?.last ?? 0);
}

function setField(from) {
  const view = subject();
  if (!view || !rowsOf(view)) return;
  state.field = follow(view, Math.max(0, Math.min(view.rows - 1, from)));
  state.layer = Math.min(1, state.field.last);
  refresh();
}

function clearField() {
  stop();
  state.field = null;
  refresh();
}

function step(layers) {
  if (!state.field) return setField(state.cursor?.i ?? Number($("from").value));
  state.layer = Math.max(0, Math.min(state.field.last, state.layer + layers));
  refresh();
}

function play() {
  if (timer) return stop();
  if (!state.field) setField(state.cursor?.i ?? Number($("from").value));
  if (!state.field) return;
  if (state.layer === state.field.last) state.layer = 0;
  timer = setInterval(() => {
    step(1);
    if (!state.field || state.layer === state.field.last) stop();
  }, 900);
  refresh();
}

function stop() {
  clearInterval(timer);
  timer = 0;
  refresh();
}
