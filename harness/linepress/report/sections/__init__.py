"""The sections of the report, each a function from the run to plain data."""
