"""Table-driven asymmetric numeral systems: fit, tables, engines of the codecs `tans` and `adaptive`."""
