// The explorer in the frame is light or dark as the page around it. Opened as a file it follows the system instead:
// a page may not look into the frame then.
const frame = document.querySelector("iframe.explorer");
const follow = () => {
  const inside = frame.contentDocument;
  const theme = document.body.dataset.mdColorScheme === "slate" ? "dark" : "light";
  if (inside?.documentElement?.dataset.theme && inside.documentElement.dataset.theme !== theme) {
    inside.getElementById("theme")?.click(); // not there while the frame loads, which ends in `follow`
  }
};
frame.addEventListener("load", follow);
new MutationObserver(follow).observe(document.body, { attributeFilter: ["data-md-color-scheme"] });
follow();
