// Keeps the source of Plotly, which the server sends once a session, until the first figure runs it (figure.js).
export default function ({ data }) {
  (window.polytopePlotly ??= Promise.withResolvers()).resolve(data);
}
