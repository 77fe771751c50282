"""What the intake service keeps: submissions, partners, uploads, the audit log."""
