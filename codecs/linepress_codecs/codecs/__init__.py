"""One file a codec (or a close family). Every module here is imported by the registry."""
