"""What every verb shares: errors as one sentence, results on stdout, progress on stderr, ``--json``."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of a table."
)


class _Place(click.ParamType):  # type: ignore[type-arg]
    """A path, or a URI such as s3://bucket/run."""

    name = "folder|uri"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from linepress.records.place import place_of

        return place_of(value)


PLACE = _Place()


class _Bytes(click.ParamType):  # type: ignore[type-arg]
    """A size such as 64MiB, 1GB or 4096, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from linepress_codecs.variant import parse_bytes

        try:
            size = parse_bytes(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return size if size > 0 else self.fail(f"{value!r} is no size; give at least 1B", param, ctx)


BYTES = _Bytes()


def stdout() -> Console:
    """Console for results; plain text without a terminal or with NO_COLOR."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    """Console for progress and warnings."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())


def print_json(document: Any) -> None:
    """One JSON document with sorted keys left as built; NaN and infinities become null (JSON has neither)."""
    from linepress.records.files import finite

    sys.stdout.write(json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n")
