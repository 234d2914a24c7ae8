// What is pinned goes along: links of the pages take the pins with them, and a sign beside a thing pins it.

let pins = [], stop;

// Before a link is followed, opened in a tab or copied. A link that names pins of its own keeps them; what a link
// compares is pinned first.
const carry = ({ target }) => {
  const link = target.closest?.(".pa a[href]");
  if (!link || link.origin !== location.origin) return;
  const url = new URL(link.href);
  if (url.searchParams.has("pin") && !link.dataset.carries) return;
  url.searchParams.delete("pin");
  for (const pin of new Set([...url.searchParams.getAll("of"), ...pins])) url.searchParams.append("pin", pin);
  link.dataset.carries = "pins";
  link.href = url;
};

export default function ({ data, setTriggerValue }) {
  pins = data.pins;
  stop?.abort();
  const own = stop = new AbortController(), { signal } = own;
  for (const kind of ["pointerdown", "click", "contextmenu"]) {
    document.addEventListener(kind, carry, { capture: true, signal });
  }
  document.addEventListener("click", ({ target }) => {
    const sign = target.closest?.("[data-pin]");
    if (sign) setTriggerValue("pinned", sign.dataset.pin);
  }, { signal });
  return () => own.abort();
}
