"""Units between memory and decoder: where a line lies, and its bits out of two beats."""
