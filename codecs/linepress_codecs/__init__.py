"""Lossless codecs over 64-byte lines and over blocks. Needs numpy, numba and the baseline libraries only."""
