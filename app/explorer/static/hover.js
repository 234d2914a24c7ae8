// Asks the server what stands under the pointer on a map (map.js), and hands on what it says. The same is asked once.
const told = (window.polytopeTold ??= new Map());
export default function ({ data, setTriggerValue }) {
  const say = (detail) => window.dispatchEvent(new CustomEvent("polytope-told", { detail }));
  if (data.example !== undefined) {
    told.set(data.example, data);
    say(data);
  }
  const ask = ({ detail }) => (told.has(detail) ? say(told.get(detail)) : setTriggerValue("example", detail));
  window.addEventListener("polytope-hover", ask);
  return () => window.removeEventListener("polytope-hover", ask);
}
