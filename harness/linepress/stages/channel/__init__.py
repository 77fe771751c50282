"""The channel stage: measured line sizes in a memory channel, a row a case."""
