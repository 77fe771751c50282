"""Certificates: issue, sign, bundle, verify."""
