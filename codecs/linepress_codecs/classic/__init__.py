"""Published line codecs as one family: bit strings, words and kernels of the classics."""
