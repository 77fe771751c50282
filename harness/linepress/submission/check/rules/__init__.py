"""The rules that look at more than the bytes of one file, one module a family."""
