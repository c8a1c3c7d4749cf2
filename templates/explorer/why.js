// Why a query sees a key, or does not: the server says which parts of the spec have the pair or lack it.

state.why = null; // {query, key, sees, reasons} of state.pair, as the server answers

/** Ask about a pair of tokens, in the view of a pane. */
async function askWhy(q, k, view = subject()) {
  if (!view) return;
  const within = (at) => Math.max(0, Math.min(view.tokens - 1, at));
  const asked = (state.pair = { q: within(q), k: within(k) });
  state.why = { view, query: asked.q, key: asked.k, sees: pairIn(view, asked.q, asked.k), reasons: [], pending: data.served };
  refresh();
  if (!data.served) return;
  const answer = await ask("why", { ...origins.get(view).asked, query: asked.q, key: asked.k });
  if (state.pair !== asked) return; // another pair was asked about
  state.why = { view, query: asked.q, key: asked.k, reasons: [], ...answer, pending: false };
  refresh();
}

/** The same pair in what is drawn now, if it has it. */
function askWhyAgain() {
  const view = subject();
  if (!state.pair || shownInPanes().some(([shown]) => shown === state.why?.view)) return;
  if (view && Math.max(state.pair.q, state.pair.k) < view.tokens) askWhy(state.pair.q, state.pair.k);
  else clearWhy();
}

/** Which of several pictures is asked about. */
function whereAsked() {
  const shown = shownInPanes();
  const place = shown.findIndex(([view]) => view === state.why.view);
  if (shown.length < 2 || place < 0) return "";
  return state.panels.length ? `In ${shown[place][2].split(":")[0]}: ` : `In ${"AB"[place]}: `;
}

function clearWhy() {
  state.pair = state.why = null;
  refresh();
}

function verdictOf({ view, query, key, sees, pending }) {
  const [q, k] = [`query ${grouped(query)}`, `key ${grouped(key)}`];
  if (sees !== null) return `Q${q.slice(1)} ${sees ? "sees" : "does not see"} ${k}.`;
  if (pending) return `Does ${q} see ${k}?`;
  if (view.awaits) return `Q${q.slice(1)} may see ${k}: the ${view.awaits} of the call decide.`;
  return `This file does not say whether ${q} sees ${k}.`;
}

function showWhy() {
  const { why } = state;
  $("why-clear").hidden = !why;
  const list = $("reasons");
  list.replaceChildren();
  markSources();
  if (!why) {
    $("verdict").textContent = "Click a block, or give a query and a key.";
    return;
  }
  if (document.activeElement !== $("why-q")) $("why-q").value = why.query;
  if (document.activeElement !== $("why-k")) $("why-k").value = why.key;
  if (why.errors) {
    $("verdict").textContent = why.errors[0].message;
    return;
  }
  $("verdict").textContent = whereAsked() + verdictOf(why);
  for (const reason of why.reasons) {
    const button = element("button", { type: "button" }, element("span", { class: `effect ${reason.effect}` }, reason.said), element("code", {}, reason.term));
    button.addEventListener("click", () => goTo(reason));
    const shown = sourcesNow().some(({ name }) => name === reason.file);
    list.append(element("li", {}, button, reason.text && !shown ? element("pre", {}, reason.text) : ""));
  }
  if (data.served || why.pending) return;
  const [i, j] = [Math.floor(why.query / why.view.block[0]), Math.floor(why.key / why.view.block[1])];
  const text = `Block (${i}, ${j}): ${blockText(why.view, i, j)}. The reasons, part by part:`;
  list.append(element("li", {}, element("p", {}, text), element("pre", {}, whyCommand(why))));
}

/** What to type for the reasons, where no server is asked. */
function whyCommand({ view, query, key }) {
  const { layout: place, setting } = origins.get(view).asked;
  const { label, axes } = data.layouts[place];
  const options = axes.map(({ name, kind }) => {
    if (kind === "parameter") return `-D ${name}=${setting[name]}`;
    return kind === "documents" ? "" : `--${name} ${setting[name]}`;
  });
  return ["bslang why", label, query, key, ...options].filter((part) => part !== "").join(" ");
}

/** Ask about what the fields of the panel say. */
function whyByNumbers() {
  const [q, k] = ["why-q", "why-k"].map((id) => Math.floor(Number($(id).value)));
  if ($("why-q").value !== "" && $("why-k").value !== "" && q >= 0 && k >= 0) askWhy(q, k);
}
