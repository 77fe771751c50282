"""Cases of the pages stage: a suite's snapshot in every contract under every codec, by line, page and whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from linepress.cluster.tasks import Task
from linepress.errors import LinepressError
from linepress.run.keys import case_key
from linepress.run.plan import source_uri
from linepress.sources import open_source
from linepress.sources.snapshot.contract import layout_named
from linepress.stages.measure.pages import GRANULARITIES
from linepress.suite.model import Suite
from linepress_codecs.errors import CodecError
from linepress_codecs.variant import Variant

TARGET = "linepress.stages.measure.pages:pages_case"


def pages_tasks(suite: Suite) -> Iterator[Task]:
    """Contract × codec × granularity of the suite's snapshot."""
    spec = suite.model.pages
    if spec is None:
        return
    uri, fit = (source_uri(suite, name) if name else "" for name in (spec.snapshot, spec.fit))
    content = [_content(name) for name in (uri, fit) if name]
    for contract, text, granularity in product(spec.contracts, spec.codecs, GRANULARITIES):
        variant = Variant.parse(text)
        yield Task(
            key=case_key(
                "pages", codec=variant.identity(), contract=contract, granularity=granularity, content=content
            ),
            stage="pages",
            target=TARGET,
            arguments=(uri, fit, contract, text, granularity, suite.model.seeds.sample),
            identity={
                "source": spec.snapshot,
                "fit": spec.fit,
                "contract": contract,
                "codec": variant.codec.spec,
                "granularity": granularity,
            },
        )


def check_pages(suite: Suite) -> None:
    """Raise with file and line for a contract, codec or snapshot that is none."""
    spec = suite.model.pages
    if spec is None:
        return
    for i, name in enumerate(spec.contracts):
        _known(suite, ("pages", "contracts", i), partial(layout_named, name, "contract"))
    for i, name in enumerate(spec.codecs):
        _known(suite, ("pages", "codecs", i), partial(Variant.parse, name))
    for key, name in (("snapshot", spec.snapshot), ("fit", spec.fit)):
        if name:
            _known(suite, ("pages", key), partial(open_source, source_uri(suite, name)))


def _known(suite: Suite, place: tuple[str | int, ...], find: Callable[[], object]) -> None:
    try:
        find()
    except (LinepressError, CodecError) as error:
        raise suite.at(place, str(error)) from None


def _content(uri: str) -> str:
    """Hash of the caches of a snapshot."""
    digest = hashlib.sha256()
    for tensor in open_source(uri).tensors():
        digest.update(f"{tensor.name} {tensor.content_sha256()}".encode())
    return digest.hexdigest()
