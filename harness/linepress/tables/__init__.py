"""Tables shown to people: columns, numbers, faces."""
