// Links to what a page shows, to copy, and the keys that work everywhere but in a field.

const FIELDS = 'input, textarea, select, [contenteditable="true"]';
// What has a use of its own for arrows.
const STEERED = '[role="slider"], [role="tab"], [role="radio"], [role="option"], [role="menu"], [role="grid"], canvas, dialog, .js-plotly-plot';

const copied = async (words) => {
  try {
    await navigator.clipboard.writeText(words);
  } catch { // only a page that came over HTTPS or from this machine has a clipboard
    const area = Object.assign(document.createElement("textarea"), { value: words });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};

// The address bar names all that the view shows (address.js), and what is pinned, of which only one page speaks.
const here = (embedded) => {
  const url = new URL(location.href);
  url.searchParams.delete("embed");
  if (!url.pathname.endsWith("/between")) url.searchParams.delete("pin");
  if (embedded) url.searchParams.set("embed", "true");
  return url.href;
};

const box = () => [...document.querySelectorAll('textarea, input[type="text"]')]
  .find((field) => field.checkVisibility() && !field.disabled && field.getAttribute("role") !== "combobox");

const toBox = () => {
  const field = box();
  if (field) field.focus();
  else document.querySelector('a[href$="/look"]')?.click();
};

// The sign of what is in focus or under the pointer, else the first thing of the page that is not pinned.
const sign = () => {
  const around = [document.activeElement, ...[...document.querySelectorAll(":hover")].reverse()];
  const near = around.map((each) => each?.closest("tr, figure")?.querySelector("[data-pin]")).find(Boolean);
  return near ?? document.querySelector('[class*="st-key-pin-"] button')
    ?? [...document.querySelectorAll('[data-pin][aria-pressed="false"]')].find((each) => !each.closest(".pa-tray"));
};

export default function ({ parentElement, data: { embedded } }) {
  const tools = parentElement.querySelector(".pa-tools"), whole = parentElement.querySelector(".pa-whole");
  const told = tools.querySelector(".pa-told"), list = tools.querySelector("dialog");
  const stop = new AbortController(), { signal } = stop;
  tools.hidden = embedded;
  tools.style.display = embedded ? "none" : "";
  whole.hidden = !embedded;
  whole.href = here(false);
  whole.addEventListener("pointerdown", () => { whole.href = here(false); }, { signal });

  const without = () => {
    const what = document.querySelector("[data-not-in-a-link]")?.dataset.notInALink;
    return what ? `, without ${what}: no link holds it` : "";
  };
  const does = {
    link: async () => { await copied(here(false)); tell(`Link copied${without()}`); },
    embed: async () => { await copied(here(true)); tell(`Link to embed copied${without()}`); },
    keys: () => list.showModal(),
  };
  const tell = (words) => {
    told.textContent = words;
    setTimeout(() => { if (told.textContent === words) told.textContent = ""; }, 2500);
  };
  for (const button of tools.querySelectorAll("[data-does]")) {
    button.addEventListener("click", does[button.dataset.does], { signal });
  }
  list.addEventListener("click", ({ target }) => { if (target === list) list.close(); }, { signal });

  const keys = { "/": toBox, p: () => sign()?.click(), "?": () => list.showModal() };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (event.target.closest?.(`${FIELDS}, dialog`) || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }, { signal });
  // Streamlit's own shortcuts listen at the document: what a slider or a tab takes does not reach them.
  document.body.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow") && event.target.closest?.(STEERED)) event.stopPropagation();
  }, { signal });
  return () => stop.abort();
}
