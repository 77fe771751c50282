"""Add the golden streams that are missing, never touching those that are there.

python tests/codecs/golden/add.py SPEC FORMAT [SPEC FORMAT ...]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from linepress_codecs.formats import format_named
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing.golden import record_of


def main(arguments: list[str]) -> int:
    folder = Path(__file__).parent
    for spec, name in zip(arguments[::2], arguments[1::2], strict=True):
        codec = make(*parse_spec(spec))
        stem = re.sub(r"[^a-z0-9]+", "-", codec.spec.lower())
        path = folder / f"{stem}.v{codec.format_version}.{name}.json"
        if path.exists():
            print(f"kept  {path.name}")
            continue
        path.write_text(json.dumps(record_of(codec, format_named(name)), indent=1) + "\n")
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
