"""linepress from Python: what notebooks call, and what the verbs of the command line call too."""
