"""The codecs' lines against their RTL: what a design is given, and what Python says of it."""
