"""KV snapshots: the format, and serving engines' pages."""
