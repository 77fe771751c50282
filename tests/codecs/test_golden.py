"""Golden streams read and write as on the day they were made; and the check can fail."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from linepress_codecs.registry import codecs
from linepress_codecs.testing.golden import check_record

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden_stream(path: Path) -> None:
    check_record(json.loads(path.read_text()))


def test_every_codec_has_a_golden_stream_of_its_version() -> None:
    have = {
        (record["spec"].split(":")[0], record["format_version"])
        for record in (json.loads(path.read_text()) for path in FILES)
    }
    missing = [f"{name} version {cls.format_version}" for name, cls in codecs().items()
               if (name, cls.format_version) not in have]  # fmt: skip
    assert not missing, f"no golden stream for {', '.join(missing)}: add with tests/codecs/golden/add.py"
    assert len({path.read_bytes() for path in FILES}) == len(FILES), "two files hold the same stream"


@pytest.mark.parametrize("change", ["payload", "bits", "tables", "version", "lines"])
def test_a_changed_golden_is_noticed(change: str) -> None:
    record = json.loads((FOLDER / "huffman.v1.bf16.json").read_text())
    bent = copy.deepcopy(record)
    if change == "version":
        bent["format_version"] += 1
    elif change == "bits":
        bent["bits"][3] += 1
    elif change == "lines":
        bent["lines"][0] = "ff" * 64
    else:
        text = bent[change]
        bent[change] = text[:-2] + f"{int(text[-2:], 16) ^ 1:02x}"
        if change == "payload":
            middle = record["starts"][4] // 4 + 10
            bent[change] = text[:middle] + f"{int(text[middle], 16) ^ 1:x}" + text[middle + 1 :]
    with pytest.raises((AssertionError, ValueError)):
        check_record(bent)


def test_the_version_table_of_the_format_holds_every_codec() -> None:
    text = (Path(__file__).parents[2] / "codecs" / "FORMAT.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9, -]+) \| (\d+) \|", text.partition("## Versions")[2].partition("\n## ")[0], re.M)
    told = {name: int(version) for names, version in rows for name in names.split(", ")}
    own = {name: cls for name, cls in codecs().items() if cls.__module__.startswith("linepress_codecs.")}
    assert told == {name: cls.format_version for name, cls in own.items()}
