"""Reading a submission as hostile input, rule by rule."""
