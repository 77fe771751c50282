# amaranth: UnusedElaboratable=no
"""Liberty files: what is read of them, wires on their pins, and how bad ones are refused."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="the extra rtl is not installed")

from amaranth.hdl import Module

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.blocks import Pipe, named
from linepress_hardware.rtl.line import LineEngine
from linepress_hardware.rtl.synthesis.liberty import read_liberty
from linepress_hardware.rtl.synthesis.mapped import synthesise


def cell(name: str, area: float, inputs: str, function: str, delay: float) -> str:
    """A gate with a constant delay in ps; ``inputs`` names its pins."""
    arcs = "".join(
        f"""
      timing () {{
        related_pin : "{pin}";
        timing_sense : non_unate;
        cell_rise (scalar) {{ values ("{delay}"); }}
        rise_transition (scalar) {{ values ("10"); }}
        cell_fall (scalar) {{ values ("{delay}"); }}
        fall_transition (scalar) {{ values ("10"); }}
      }}"""
        for pin in inputs
    )
    pins = "".join(
        f"""
    pin ({pin}) {{
      direction : input;
      capacitance : 1.0;
      rise_capacitance_range (0.5, 1.5);
    }}"""
        for pin in inputs
    )
    return f"""
  cell ({name}) {{
    area : {area};{pins}
    pin (Y) {{
      direction : output;
      max_capacitance : 50;
      function : "{function}";{arcs}
    }}
  }}"""


FLIP_FLOP = """
  cell (DFF) {
    area : 3;
    ff (IQ, IQN) {
      next_state : "D";
      clocked_on : "CLK";
    }
    pin (CLK) { direction : input; clock : true; capacitance : 1.0; }
    pin (D) {
      direction : input;
      capacitance : 1.0;
      timing () {
        related_pin : "CLK";
        timing_type : setup_rising;
        rise_constraint (scalar) { values ("7"); }
        fall_constraint (scalar) { values ("7"); }
      }
    }
    pin (Q) {
      direction : output;
      function : "IQ";
      max_capacitance : 50;
      timing () {
        related_pin : "CLK";
        timing_type : rising_edge;
        timing_sense : non_unate;
        cell_rise (scalar) { values ("30"); }
        rise_transition (scalar) { values ("10"); }
        cell_fall (scalar) { values ("30"); }
        fall_transition (scalar) { values ("10"); }
      }
    }
  }"""


def library(flip_flop: str = FLIP_FLOP, buffer: bool = True) -> str:
    gates = [cell("NAND", 1, "AB", "!(A*B)", 11), cell("INV", 0.5, "A", "!A", 5)]
    if buffer:
        gates += [cell("BUFX2", 2, "A", "A", 9), cell("BUFX1", 1, "A", "(A)", 10)]
    head = """library (toy) {
  delay_model : table_lookup;
  time_unit : "1ps";
  capacitive_load_unit (1, ff);
  nom_process : 1;
  nom_temperature : 25;
  nom_voltage : 0.7;
"""
    return head + "".join(gates) + flip_flop + "\n}\n"


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.lib.gz"
    path.write_bytes(gzip.compress(library().encode()))
    return path


def test_a_library_says_its_corner_units_and_buffer(toy: Path) -> None:
    found = read_liberty(toy)
    assert (found.name, found.corner, found.ps, found.fF) == ("toy", "0.7 V, 25 °C", 1.0, 1.0)
    assert found.buffer() == "BUFX1"
    assert len(found.sha256) == 64


def test_wires_load_every_input_pin_and_no_other(toy: Path) -> None:
    found = read_liberty(toy)
    text = found.with_wires(0.25)
    inputs = found.text.count("direction : input")
    assert text.count("capacitance : 1.25") == inputs
    assert text.count("rise_capacitance_range (0.75, 1.75)") == found.text.count("rise_capacitance_range")
    assert text.count("max_capacitance : 50") == found.text.count("max_capacitance : 50")
    assert found.with_wires(0.0) == found.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (library(flip_flop=""), r"toy of .* has no flip-flop: give a liberty file with the sequential cells"),
        ("hello", r"has no library group: give a liberty file"),
        (library().replace("time_unit", "tea_unit"), r"does not state its units"),
    ],
)
def test_a_bad_liberty_file_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.lib"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=reason):
        read_liberty(path)


def test_a_missing_or_broken_file_and_one_without_buffers(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.lib cannot be read"):
        read_liberty(tmp_path / "none.lib")
    broken = tmp_path / "broken.lib.gz"
    broken.write_bytes(gzip.compress(library().encode())[:40])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_liberty(broken)
    plain = tmp_path / "plain.lib"
    plain.write_text(library(buffer=False))
    with pytest.raises(ConfigurationError, match="has no buffer"):
        read_liberty(plain).buffer()


class Nand(LineEngine):
    """One register, one NAND, one register."""

    line_bits, data_bits = 2, 1

    def build(self, m: Module) -> None:
        pipe = Pipe(m, self.valid)
        line = pipe.cut(self.line)
        self.finish(m, pipe, named(m, ~(line[0] & line[1]), "nand"), 0)


@pytest.mark.skipif(shutil.which("sta") is None, reason="OpenSTA's sta is not installed")
def test_a_path_is_clock_to_output_gate_and_setup(toy: Path) -> None:
    """30 ps + 11 ps + 7 ps, whatever the wires, for the toy's delays do not depend on load."""
    pytest.importorskip("pyosys", reason="the extra rtl is not installed")
    mapped = synthesise(Nand(), "nand", read_liberty(toy), 0.5, [], 100.0)
    assert [t.wire_fF for t in mapped.timings] == [0.5, 0.0]
    for timing in mapped.timings:
        assert 48 <= timing.register_ps <= 48 + 20  # at most a buffer on the way, and the reset of a valid bit
        assert timing.memory_ps is None
    assert mapped.sequential_um2 == 3 * (2 + 1 + 2)
    assert mapped.tables_um2 == 0


def test_without_the_timer_the_error_says_what_to_install(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ConfigurationError, match=r"apt-get install opensta, or leave --liberty out"):
        synthesise(Nand(), "nand", read_liberty(toy), 0.0, [], 100.0)
