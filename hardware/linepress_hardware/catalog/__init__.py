"""One reader of the data files: figures with unit, source and standing; parts looked up by name or alias."""
