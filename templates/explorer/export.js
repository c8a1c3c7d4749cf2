// The picture as a file: SVG or PNG, with a title and the legend, in the colours of the page.

/** What writes an SVG where a canvas would be drawn on: the part of a canvas's pen that the picture uses. */
class SvgPen {
  constructor() {
    this.parts = [];
    this.path = [];
    this.clips = 0;
    this.open = []; // for each `save`: how many groups were opened since
    Object.assign(this, { fillStyle: "", strokeStyle: "", globalAlpha: 1, lineWidth: 1, font: FONT, textAlign: "left", textBaseline: "alphabetic" });
  }

  fillRect(x, y, width, height) {
    this.parts.push(`<rect ${box(x, y, width, height)} fill="${this.fillStyle}"${this.#alpha("fill")}/>`);
  }

  strokeRect(x, y, width, height) {
    this.parts.push(`<rect ${box(x, y, width, height)} fill="none" stroke="${this.strokeStyle}" stroke-width="${short(this.lineWidth)}"${this.#alpha("stroke")}/>`);
  }

  beginPath() {
    this.path = [];
  }

  moveTo(x, y) {
    this.path.push(`M${short(x)} ${short(y)}`);
  }

  lineTo(x, y) {
    this.path.push(`L${short(x)} ${short(y)}`);
  }

  rect(x, y, width, height) {
    this.path.push(`M${short(x)} ${short(y)}h${short(width)}v${short(height)}h${short(-width)}z`);
  }

  stroke() {
    if (this.path.length) this.parts.push(`<path d="${this.path.join("")}" fill="none" stroke="${this.strokeStyle}" stroke-width="${short(this.lineWidth)}"${this.#alpha("stroke")}/>`);
  }

  clip() {
    const id = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}"><path d="${this.path.join("")}"/></clipPath><g clip-path="url(#${id})">`);
    this.open[this.open.length - 1].groups += 1;
  }

  save() {
    const { fillStyle, strokeStyle, globalAlpha, lineWidth } = this;
    this.open.push({ groups: 0, style: { fillStyle, strokeStyle, globalAlpha, lineWidth } });
  }

  restore() {
    const { groups, style } = this.open.pop();
    this.parts.push("</g>".repeat(groups));
    Object.assign(this, style);
  }

  fillText(text, x, y) {
    const anchor = { left: "start", center: "middle", right: "end" }[this.textAlign];
    const drop = { top: "0.8em", middle: "0.35em", bottom: "-0.2em", alphabetic: "0" }[this.textBaseline];
    this.parts.push(`<text x="${short(x)}" y="${short(y)}" dy="${drop}" text-anchor="${anchor}" fill="${this.fillStyle}" style="font:${this.font}">${escaped(text)}</text>`);
  }

  #alpha(kind) {
    return this.globalAlpha === 1 ? "" : ` ${kind}-opacity="${short(this.globalAlpha)}"`;
  }
}

const short = (number) => Number(number.toFixed(2));
const box = (x, y, width, height) => `x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"`;
const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

const LINE = 18; // px of a line of the title or the legend

/** The lines of a file's title, and of its legend with the colour of each. */
function wordsOf(shown) {
  const views = shown.map(([view]) => view);
  const [view] = views;
  const title = [state.mode === "b" ? labels()[1] : labels()[0], `${plural(view.tokens, "token")}, blocks of ${view.block.join(" x ")}: ${percent(view.figures.density)} of ${grouped(view.rows)} x ${grouped(view.columns)} blocks`];
  if (shown[0][1]) return { title: [labels().join(" and "), title[1]], legend: [["only in A", data.palette[0]], ["only in B", data.palette[1]], ["in both", colours().muted]] };
  if (state.panels.length) return { title, legend: termsOfPanels() };
  const terms = new Map(views.flatMap((each) => each.terms.map(([text], term) => [text, colourOf(term)])));
  return { title, legend: [...terms] };
}

/** Draw all panes, the title and the legend with a pen; px of it all. make: gets the size before the drawing. */
function drawFile(make) {
  const shown = shownInPanes();
  const across = Math.min(shown.length, 4);
  const { title, legend } = wordsOf(shown);
  const [first] = panes;
  const [wide, tall] = [first.size.width, first.size.height + (shown.length > 1 ? LINE : 0)];
  const top = LINE * title.length + 12;
  const width = Math.max(360, across * wide);
  const height = top + Math.ceil(shown.length / across) * tall + LINE * legend.length + 12;
  const c = make(width, height);
  const ink = colours();
  const write = (text, x, y, style, font = "12px system-ui, sans-serif") => {
    Object.assign(c, { globalAlpha: 1, fillStyle: style, font, textAlign: "left", textBaseline: "top" });
    c.fillText(text, x, y);
  };
  c.fillStyle = ink.card;
  c.fillRect(0, 0, width, height);
  title.forEach((text, at) => write(text, 12, 10 + LINE * at, at ? ink.muted : ink.ink, at ? undefined : "600 13px system-ui, sans-serif"));
  shown.forEach(([view, other, caption], place) => {
    const [x, y] = [(place % across) * wide, top + Math.floor(place / across) * tall];
    if (shown.length > 1) write(caption, x + 12, y, ink.muted);
    const pen = shifted(c, x, y + (shown.length > 1 ? LINE : 0));
    const brush = brushOf({ view, size: first.size }, pen);
    paint(brush, view, other);
  });
  legend.forEach(([text, colour], at) => {
    const y = height - LINE * (legend.length - at) - 6;
    c.globalAlpha = 1;
    c.fillStyle = colour;
    c.fillRect(12, y, 12, 12);
    write(text, 30, y, ink.ink);
  });
  return c;
}

/** A pen whose places are moved. */
function shifted(c, dx, dy) {
  const moved = new Set(["fillRect", "strokeRect", "rect", "moveTo", "lineTo"]);
  return new Proxy(c, {
    get(pen, name) {
      const found = pen[name];
      if (typeof found !== "function") return found;
      if (moved.has(name)) return (x, y, ...rest) => found.call(pen, x + dx, y + dy, ...rest);
      if (name === "fillText") return (text, x, y) => found.call(pen, text, x + dx, y + dy);
      return found.bind(pen);
    },
    set(pen, name, value) {
      pen[name] = value;
      return true;
    },
  });
}

function svgText() {
  let size = "";
  const pen = drawFile((width, height) => {
    size = `width="${Math.ceil(width)}" height="${Math.ceil(height)}" viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}"`;
    return new SvgPen();
  });
  const title = escaped(describe(panes[0].view, panes[0].other));
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img"><title>${title}</title>${pen.parts.join("\n")}</svg>\n`;
}

function save(blob, ending) {
  const address = URL.createObjectURL(blob);
  const name = (data.layouts[0]?.name ?? "layout").replace(/[^\w-]/g, "_").slice(0, 80);
  const link = element("a", { href: address, download: `${name}.${ending}` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function saveSvg() {
  if (panes[0]?.view) save(new Blob([svgText()], { type: "image/svg+xml" }), "svg");
}

function savePng() {
  if (!panes[0]?.view) return;
  const canvas = document.createElement("canvas");
  drawFile((width, height) => {
    [canvas.width, canvas.height] = [Math.ceil(width * 2), Math.ceil(height * 2)];
    const c = canvas.getContext("2d");
    c.scale(2, 2);
    return c;
  });
  canvas.toBlob((blob) => save(blob, "png"), "image/png");
}
