// Blocks by row, as the compiler gave them: each of them, or cells of many, at the level that the zoom asks for.

const TILE = 256; // cells on a side of a tile, as the server makes them
const CHUNK = 16; // blocks on a side of what is asked for masks at once
const decoded = new WeakMap();

/** Rows of runs: [start, stop, value, ..., start, stop, value, ...], with so many values each. */
function decode(numbers, values) {
  const rows = [];
  for (let at = 0; at < numbers.length; ) {
    const row = [];
    let count = numbers[at++];
    for (let column = 0; count > 0; count -= 1) {
      const start = column + numbers[at++];
      column = start + numbers[at++];
      row.push(start, column);
      for (let value = 0; value < values; value += 1) row.push(numbers[at++]);
    }
    rows.push(row);
  }
  return rows;
}

/** What was read of a view: its rows, its coarse cells, its tiles and the masks of its blocks. */
function known(view) {
  if (!decoded.has(view)) {
    const coarse = view.coarse && { level: view.coarse[0], rows: decode(view.coarse[1], 3) };
    decoded.set(view, { rows: view.runs && decode(view.runs, 1), coarse, tiles: new Map(), masks: null, chunks: new Set() });
  }
  return decoded.get(view);
}

/** The blocks of a view by row, each run with its look; null where there are too many to have them all. */
const rowsOf = (view) => known(view).rows;

/** The look of a block, -1 where it is empty, undefined where that is not known here. */
function lookAt(view, i, j) {
  if (rowsOf(view)) return valuesAt(rowsOf(view)[i], 3, j)?.[0] ?? -1;
  const cell = cellAt(view, 0, i, j);
  return cell === undefined ? undefined : cell === null ? -1 : 2 * cell[0] + (cell[2] ? 1 : 0);
}

/** The values of the run that holds a column; undefined for none. */
function valuesAt(row, size, j) {
  let low = 0;
  let high = (row?.length ?? 0) / size;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row[size * middle + 1] <= j) low = middle + 1;
    else high = middle;
  }
  return size * low < (row?.length ?? 0) && row[size * low] <= j ? row.slice(size * low + 2, size * (low + 1)) : undefined;
}

/** [term, full, partial] of the cell that holds a block, null for an empty one, undefined where it is not here. */
function cellAt(view, level, i, j) {
  const { coarse, tiles } = known(view);
  const [down, across] = [i >> level, j >> level];
  if (coarse && level === coarse.level) return valuesAt(coarse.rows[down], 5, across) ?? null;
  const tile = tiles.get(tileKey(level, Math.floor(down / TILE), Math.floor(across / TILE)));
  return tile ? (valuesAt(tile[down % TILE], 5, across % TILE) ?? null) : undefined;
}

const tileKey = (level, down, across) => `${level}/${down}/${across}`;

/** The level at which a view is drawn where its blocks have so many px: -1 for its blocks themselves. */
function levelOf(view, px) {
  const { rows, coarse } = known(view);
  if (rows) return coarse && px * 2 ** coarse.level <= 2 ? coarse.level : -1;
  if (!data.served) return coarse.level;
  return Math.min(coarse.level, Math.max(0, Math.ceil(Math.log2(1 / px))));
}

/** Blocks on a side of what the reader points at. */
const unitOf = (view, px) => 2 ** Math.max(0, levelOf(view, px));

// ---- what is asked of the server -----------------------------------------------------------------

let asking = 0; // questions under way
const MOST_ASKING = 4;
let waiting = 0;

/** Draw again when the reader rests, and ask then for what is missing. */
function later() {
  clearTimeout(waiting);
  waiting = setTimeout(drawSoon, 80);
}

async function askFor(question, view, values, take) {
  asking += 1;
  const answer = await ask(question, { ...origins.get(view).asked, ...values });
  asking -= 1;
  if (!answer.errors) take(answer);
  showReadout();
  drawSoon();
}

/** The tile of a level, null while it is on its way. */
function tileOf(view, level, down, across) {
  const { tiles } = known(view);
  const key = tileKey(level, down, across);
  if (tiles.has(key)) return tiles.get(key);
  if (asking >= MOST_ASKING) later();
  else {
    tiles.set(key, null);
    askFor("tile", view, { level, down, across }, ({ cells }) => tiles.set(key, decode(cells, 3)));
  }
  return null;
}

/** The tiles of a level that meet block rows and columns: {rows, top, left}, in cells; no rows yet while they are on their way. */
function* tilesIn(view, level, [top, bottom], [left, right]) {
  const { coarse } = known(view);
  if (level === coarse.level) {
    yield { rows: coarse.rows, top: 0, left: 0 };
    return;
  }
  const side = TILE << level;
  for (let down = Math.floor(top / side); down * side < bottom; down += 1) {
    for (let across = Math.floor(left / side); across * side < right; across += 1) {
      yield { rows: tileOf(view, level, down, across), top: down * TILE, left: across * TILE };
    }
  }
}

// ---- token masks ---------------------------------------------------------------------------------

/** The mask of a partial block: the lengths of its stretches, row after row, by turns without and with its pairs.
 * null where the call decides; undefined where it is not here. */
function maskOf(view, i, j) {
  const found = known(view);
  found.masks ??= ownMasks(view);
  return found.masks.get(i * view.columns + j);
}

function ownMasks(view) {
  const masks = new Map();
  if (!view.masks) return masks;
  const bits = view.masks.bits ?? origins.get(view).masks;
  const of = view.masks.of;
  let [at, left] = [0, of[1]];
  rowsOf(view).forEach((row, i) => {
    for (let run = 0; run < row.length; run += 3) {
      if (row[run + 2] % 2 === 0) continue;
      for (let j = row[run]; j < row[run + 1]; j += 1) {
        if (left === 0) {
          at += 2;
          left = of[at + 1];
        }
        left -= 1;
        masks.set(i * view.columns + j, of[at] < 0 ? null : bits[of[at]]);
      }
    }
  });
  return masks;
}

/** Ask for the masks of some block rows and columns that are not here. */
function wantMasks(view, [top, bottom], [left, right]) {
  if (!data.served || view.masks) return;
  const { chunks } = known(view);
  for (let down = Math.floor(top / CHUNK); down * CHUNK < bottom; down += 1) {
    for (let across = Math.floor(left / CHUNK); across * CHUNK < right; across += 1) {
      const key = `${down}/${across}`;
      if (chunks.has(key)) continue;
      if (asking >= MOST_ASKING) return later();
      chunks.add(key);
      const place = { top: down * CHUNK, bottom: (down + 1) * CHUNK, left: across * CHUNK, right: (across + 1) * CHUNK };
      askFor("masks", view, place, ({ at, bits }) => {
        const { masks } = known(view);
        for (let each = 0; each < at.length; each += 3) {
          masks.set(at[each] * view.columns + at[each + 1], at[each + 2] < 0 ? null : bits[at[each + 2]]);
        }
      });
    }
  }
}

/** Whether a pair is in its block's mask; null where that is not known here. */
function pairIn(view, q, k) {
  const [i, j] = [Math.floor(q / view.block[0]), Math.floor(k / view.block[1])];
  const look = lookAt(view, i, j);
  if (look === undefined) return null;
  if (look < 0 || look % 2 === 0) return look >= 0;
  const bits = maskOf(view, i, j);
  if (!bits) return null;
  let left = (q % view.block[0]) * view.block[1] + (k % view.block[1]);
  let at = 0;
  while (left >= bits[at]) left -= bits[at++];
  return at % 2 === 1;
}

// ---- two views -----------------------------------------------------------------------------------

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
