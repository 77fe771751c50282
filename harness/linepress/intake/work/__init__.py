"""What the intake service does with a submission: check, run, judge."""
