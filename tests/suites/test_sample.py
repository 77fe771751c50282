"""The bundled sample is what its README says, and the script that cuts it does nothing else."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from benchmarks.tools.cut_sample import CUTS, cut, main

from linepress.sources import open_source
from linepress.submission.fixtures import build

DATA = Path(__file__).parents[2] / "suites" / "linepress_suites" / "data"


def test_files_hashes_and_sizes_are_those_of_the_readme() -> None:
    readme = (DATA / "README.md").read_text()
    stated = dict(re.findall(r"\| `([^`]+)` \| [\d,]+ \| `([0-9a-f]{64})` \|", readme))
    files = {path.name: path.read_bytes() for path in DATA.glob("*.safetensors")}
    assert set(stated) == set(files) == {one.name for one in CUTS}
    for name, data in files.items():
        assert hashlib.sha256(data).hexdigest() == stated[name]
        assert f"`{name}` | {len(data):,} |" in readme
    assert sum(map(len, files.values())) <= 4_000_000


@pytest.mark.parametrize("one", CUTS, ids=lambda one: one.name)
def test_every_file_states_origin_and_licence_and_holds_the_cut_rows(one: object) -> None:
    from benchmarks.tools.cut_sample import Cut

    assert isinstance(one, Cut)
    source = open_source(str(DATA / one.name))
    tensors = {t.name: t for t in source.tensors()}
    assert set(tensors) == set(one.rows)
    for name, rows in one.rows.items():
        assert {"licence", "source"} <= set(tensors[name].metadata)
        if rows:
            assert tensors[name].shape[0] == rows
            assert tensors[name].metadata[f"rows of {name}"].startswith(f"0:{rows} of ")


def test_cut_takes_whole_rows_bytes_unchanged() -> None:
    body = bytes(range(96))
    raw = build({"a": ("BF16", [6, 4], body[:48]), "b": ("BF16", [24], body[48:])}, {"licence": "MIT"})
    small = cut(raw, {"a": 2, "b": 0})
    assert small == cut(raw, {"b": 0, "a": 2})
    n = int.from_bytes(small[:8], "little")
    assert small[8 + n :] == body[:16] + body[48:]
    with pytest.raises(ValueError, match="no tensor 'c' in the file; it has a, b"):
        cut(raw, {"c": 0})


def test_another_origin_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / CUTS[0].origin).write_bytes(b"another file")
    assert main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert "use the file named in README" in capsys.readouterr().err
    assert main([]) == 4
