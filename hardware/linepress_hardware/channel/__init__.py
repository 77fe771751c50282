"""The compressed memory channel: port, translation, compaction, codec engine, ECC; over a simulated memory."""
