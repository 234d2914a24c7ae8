"""The pages of the explorer, a module each with one `render`."""
