"""`polytope mcp`: an atlas for an assistant. The only folder that imports mcp."""
