// Examples side by side or one under the other, each a link to itself, with a box to choose it; a word to the script when
// the choice changes. What data sets hold is set as text, never as HTML.
const made = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const shown = ({ picture, pixels, before, token, after, numbers }) => {
  if (picture) return made("img", { src: picture, alt: "", className: pixels ? "pa-pixels" : "" });
  if (token !== undefined) return made("span", { className: "pa-context" }, before, made("mark", { textContent: token }), after);
  return made("span", { className: "pa-mono", textContent: numbers ?? "no thumbnail" });
};

export default function ({ parentElement, data: { items, size, pictured, chosen }, setStateValue }) {
  const list = parentElement.querySelector(".pa-gallery"), held = new Set(chosen);
  const tell = () => setStateValue("chosen", [...held]);
  list.classList.toggle("pa-lines", !pictured);
  list.style.setProperty("--size", `${size}px`);
  list.replaceChildren(...items.map((item) => {
    const box = made("input", { type: "checkbox", checked: held.has(item.id) });
    box.setAttribute("aria-label", `Choose example ${item.id}`);
    box.onchange = () => {
      held[box.checked ? "add" : "delete"](item.id);
      tell();
    };
    const link = made("a", { href: item.href, title: `example ${item.id}` }, shown(item));
    link.setAttribute("aria-label", `Example ${item.id}`);
    const pin = made("button", { type: "button", className: "pa-pin", title: item.pinned ? "Unpin" : "Pin" });
    pin.dataset.pin = item.pin;
    pin.setAttribute("aria-pressed", String(item.pinned));
    pin.setAttribute("aria-label", `${item.pinned ? "Unpin" : "Pin"} example ${item.id}`);
    const tags = item.tags.map((tag) => made("span", { className: "pa-tag", textContent: tag }));
    return made("li", {}, box, link, made("small", {}, pin, item.words, ...tags));
  }));
  const all = parentElement.querySelector(".pa-all"), here = items.map(({ id }) => id);
  const whole = here.every((id) => held.has(id));
  all.textContent = whole ? "Choose none of this page" : "Choose all of this page";
  all.onclick = () => {
    for (const id of here) held[whole ? "delete" : "add"](id);
    tell();
  };
}
