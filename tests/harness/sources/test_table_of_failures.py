"""What can go wrong with a source, and the test that shows what happens: a table that fails when a test goes away."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FAILURES = [
    (
        "file list of a folder or repository that is not there",
        "sources/test_hub.py",
        "test_what_cannot_be_read_is_explained",
    ),
    ("file list that lies about sizes", "sources/test_hub.py", "test_a_file_list_that_lies_about_sizes_is_found_out"),
    ("revision that does not exist", "sources/test_hub.py", "test_what_cannot_be_read_is_explained"),
    ("commit that is not 40 hex", "sources/test_hub.py", "test_a_commit_that_is_none_is_refused"),
    ("answers that no hub gives", "sources/test_hub.py", "test_a_server_that_is_no_hub_is_one_sentence"),
    ("no server at all", "sources/test_hub.py", "test_no_server_at_all_is_one_sentence"),
    (
        "error headers: gated, missing, private",
        "sources/test_hub.py",
        "test_gated_repository_says_what_to_do_and_opens_with_the_token",
    ),
    (
        "ranges not served, shifted or answered from another size",
        "sources/test_hub.py",
        "test_lying_server_is_found_out",
    ),
    ("connection dropped", "sources/test_hub.py", "test_dropped_connection_is_resumed_where_it_broke"),
    ("busy server", "sources/test_hub.py", "test_busy_server_is_asked_again_and_a_dead_one_is_given_up"),
    (
        "answer shorter than its range",
        "sources/test_hub.py",
        "test_an_answer_shorter_than_its_range_is_asked_for_the_rest",
    ),
    ("answer longer than its range", "sources/test_hub.py", "test_lying_server_is_found_out"),
    (
        "content or commit changed between header and body",
        "sources/test_hub.py",
        "test_content_that_changes_between_header_and_body_is_found_out",
    ),
    ("remote file cut short", "sources/test_hub.py", "test_truncated_remote_file_is_refused_by_its_header"),
    ("half-read tensor", "sources/test_hub.py", "test_nothing_half_read_is_measured"),
    ("offline without a snapshot", "sources/test_hub.py", "test_local_snapshot_and_offline_mode"),
    ("pickle in a repository", "sources/test_hub.py", "test_what_cannot_be_read_is_explained"),
    (
        "pickle on disk, whatever its name",
        "sources/test_other_formats.py",
        "test_pickles_are_refused_by_content_with_the_conversion",
    ),
    ("archive, program, script, Git LFS pointer", "sources/test_other_formats.py", "test_other_content_is_named"),
    (
        "index that climbs out or contradicts its shards",
        "sources/test_hub.py",
        "test_index_that_points_outside_or_contradicts_the_shards_is_refused",
    ),
    ("index with a key twice", "sources/test_safetensors.py", "test_index_is_strict_json"),
    (
        "folder that contradicts itself",
        "sources/test_safetensors.py",
        "test_folder_that_contradicts_itself_is_refused",
    ),
    ("every rule of the safetensors header", "sources/test_safetensors.py", "test_lying_header_is_one_sentence"),
    ("safetensors cut at any byte", "sources/test_safetensors.py", "test_every_truncation_is_refused"),
    (
        "mutated safetensors header",
        "sources/test_safetensors.py",
        "test_mutated_headers_are_refused_or_read_as_the_library_reads_them",
    ),
    (
        "file changed under the reader",
        "sources/test_safetensors.py",
        "test_file_changed_after_opening_is_never_measured",
    ),
    ("hostile GGUF header", "sources/test_other_formats.py", "test_lying_gguf_is_one_sentence"),
    ("GGUF cut at any byte", "sources/test_other_formats.py", "test_every_truncation_of_a_gguf_is_refused"),
    ("hostile .npy", "sources/test_other_formats.py", "test_truncated_and_lying_npy"),
    (
        "tensor that cannot be dequantised",
        "sources/test_dequantise.py",
        "test_what_cannot_be_dequantised_is_one_sentence",
    ),
    ("NaN-filled cache, of each fp8 too", "snapshots/test_snapshot_format.py", "test_nan_of_each_fp8"),
    (
        "heads x dim, tokens or layers that contradict the shape; 0 tokens; hostile block tables",
        "snapshots/test_snapshot_format.py",
        "test_each_lie_is_found_and_said_in_one_sentence",
    ),
    (
        "snapshot whose writer was wrong",
        "snapshots/test_snapshot_format.py",
        "test_a_writer_leaves_nothing_behind_when_it_refuses",
    ),
]


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of the test functions of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("failure", "file", "test"), FAILURES)
def test_each_failure_has_a_test(failure: str, file: str, test: str) -> None:
    assert test in functions_of(TESTS / file), f"{failure}: {file} has no {test}; write it again or mend this table"
