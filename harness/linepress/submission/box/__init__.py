"""The jail in which everything from outside is parsed."""
