"""Lines against an older version of themselves: differences in units of the last place, by the base's exponent."""
