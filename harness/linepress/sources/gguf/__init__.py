"""GGUF files: their container, their block types, unpacking."""
