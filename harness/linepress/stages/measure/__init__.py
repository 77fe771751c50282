"""The measure stage: one tensor under one variant, a row a case."""
