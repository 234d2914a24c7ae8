// The address bar names all that a page shows: Streamlit itself leaves out what is the default, which another day may be
// another clustering, and a link that somebody keeps is to show the same then.

export default function ({ data: { named } }) {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(named)) {
    const values = [value].flat();
    if (JSON.stringify(url.searchParams.getAll(name)) === JSON.stringify(values)) continue;
    url.searchParams.delete(name);
    for (const each of values) url.searchParams.append(name, each);
  }
  if (url.search !== location.search) history.replaceState(history.state, "", url);
}
