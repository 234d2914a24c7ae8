"""`polytope serve`: the questions of `query` over HTTP. The only folder that imports fastapi."""
