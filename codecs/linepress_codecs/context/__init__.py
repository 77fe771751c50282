"""The machinery of `context`: channels, tokens, and what a decoder knows before an element."""
