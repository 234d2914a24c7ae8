// Keeps the points of a map, which the server sends once, for the map that draws them (map.js): 4 bytes with the length
// of a head in JSON, the head, then of each point its example (4 bytes), its place and its kind (2 bytes each).
export default function ({ data }) {
  const { buffer } = new Uint8Array(data), length = new DataView(buffer).getUint32(0, true);
  const { key, n } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  const take = (Type) => {
    const taken = new Type(buffer, start, n);
    start += taken.byteLength;
    return taken;
  };
  const kept = (window.polytopePoints ??= new Map());
  if (!kept.has(key)) kept.set(key, Promise.withResolvers());
  kept.get(key).resolve({ n, ids: take(Uint32Array), x: take(Uint16Array), y: take(Uint16Array), kinds: take(Uint16Array) });
  for (const other of kept.keys()) if (other !== key) kept.delete(other); // of one map: another takes their place
}
