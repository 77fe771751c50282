"""Memory channel, accelerator, rack and fabric models. Takes numbers with units, returns records."""
