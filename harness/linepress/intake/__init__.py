"""The intake service: partners hand in models and snapshots over HTTP and get a verdict.

`app` puts the parts together: partners and their tokens (`partners`), resumable uploads (`uploads`), states and their
journal (`submissions`), the runner that checks and validates (`runner`), JSON routes (`api`) and plain pages
(`pages`). Nothing that a partner sends is parsed in the service itself: names and sizes are declared as JSON, and the
files are opened by the sandboxed check of `linepress.submission` alone.
"""
