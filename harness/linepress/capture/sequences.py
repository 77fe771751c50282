"""Feeding sequences to a model as a serving engine would: prompt, decode, turns, a prefix computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from linepress.capture.options import CaptureOptions
from linepress.capture.runner import CaptureError, Runner, Session


@dataclass(frozen=True, slots=True)
class Fed:
    """A sequence after its last token.

    Attributes
    ----------
    tokens : tuple of int
        Every token of the cache, in order, generated ones included.
    turn_ends : tuple of int
        Tokens in the cache at the end of each turn.
    decoded : int
        Tokens that were fed one by one.
    """

    session: Session
    tokens: tuple[int, ...]
    turn_ends: tuple[int, ...]
    decoded: int


def stretches(tokens: Sequence[int], context: int, options: CaptureOptions, name: str) -> list[list[int]]:
    """The tokens of each sequence: the shared prefix, then a stretch of the text of its own.

    Raises `CaptureError` where the text is too short, saying how many tokens it has and how many it takes.
    """
    shared = options.shared_tokens
    own = [length - shared for length in options.lengths or (context,) * options.sequences]
    need = shared + sum(own)
    if len(tokens) < need:
        raise CaptureError(f"{name} has {len(tokens)} tokens but this capture takes {need}; give a longer text")
    ends = list(accumulate(own, initial=shared))
    return [list(tokens[:shared]) + list(tokens[start:end]) for start, end in pairwise(ends)]


def feed(runner: Runner, sequences: Sequence[Sequence[int]], phase: str, options: CaptureOptions) -> Iterator[Fed]:
    """Each sequence fed to the model, one after the other; a shared prefix is prefilled once and copied."""
    start: Session | None = None
    if options.shared_tokens:
        start = runner.start()
        start.prefill(sequences[0][: options.shared_tokens])
    for tokens in sequences:
        session = runner.start() if start is None else start.fork()
        yield _turns(session, list(tokens), phase, options)


def _turns(session: Session, tokens: list[int], phase: str, options: CaptureOptions) -> Fed:
    at = options.shared_tokens
    step = (len(tokens) - at) // options.turns
    ends: list[int] = []
    decoded = 0
    for turn in range(options.turns):
        end = len(tokens) if turn == options.turns - 1 else at + step
        tail = options.decode_tokens if phase == "decode" or options.turns > 1 else 0
        session.prefill(tokens[at : end - tail])
        if tail and options.decode_from == "model":
            tokens[end - tail : end] = session.generate(tail)
        elif tail:
            session.decode(tokens[end - tail : end])
        decoded += tail
        at = end
        ends.append(end)
    return Fed(session, tuple(tokens), tuple(ends), decoded)
