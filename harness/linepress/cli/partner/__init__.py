"""The verbs of submissions, certificates and the intake service."""
