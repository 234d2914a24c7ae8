"""How a question is put to an atlas that a server holds: its arguments as JSON, and its answer as it was."""
