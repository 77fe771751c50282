"""A codec in another package, exactly as ``docs/codec-howto.md`` shows it: found by entry point, and conformant."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOC = Path(__file__).parents[2] / "docs" / "codec-howto.md"
RUN = """
from linepress_codecs.registry import codecs
from linepress_codecs.testing import line_checks
from linepress_codecs.variant import Variant
codec = Variant.parse("same:layout=channel:packing=slots").codec
assert type(codec).__module__ == "my_package"
assert "same" in codecs()
for check in line_checks():
    check(codec)
print("conformant")
"""


def install(folder: Path, source: str) -> None:
    """A package and its metadata, as an installer would leave them."""
    (folder / "my_package.py").write_text(source)
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[linepress.codecs]\nsame = my_package:Same\n")


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_documented_codec_works(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)
    install(tmp_path, blocks[0])
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "conformant\n"


def test_a_clash_of_names_is_refused(tmp_path: Path) -> None:
    source = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)[0]
    install(tmp_path, source.replace('codec_id = "same"', 'codec_id = "huffman"'))
    done = run(tmp_path)
    assert done.returncode != 0
    assert "two codecs call themselves 'huffman'" in done.stderr
