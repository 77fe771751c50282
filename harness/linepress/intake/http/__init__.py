"""The intake service as seen from outside: routes, pages, tokens, limits."""
