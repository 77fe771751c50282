"""Hardware cards: what is shared between codecs, and what was measured of their RTL designs."""
