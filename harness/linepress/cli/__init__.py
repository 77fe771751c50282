"""The command line: one module a verb, all sharing `linepress.cli.common`."""
