"""``linepress capture MODEL --text FILE``: the KV caches of a live model as snapshots."""

from __future__ import annotations

import click

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.environment import expanded
from linepress.errors import EXIT_OK

EPILOG = """\b
Examples:
  linepress capture model.gguf --text prose.txt --context 512,2048 --out caches
  linepress capture org/name@main --text code.py --cache bf16,fp16,e4m3:scale=tensor --keys post-rope,pre-rope --out c
  linepress capture MODEL_FOLDER --text chat.txt --layout paged-vllm --sequences 4 --shared-prefix 256 --out caches
  linepress capture MODEL_FOLDER --text chat.txt --layout batch --lengths 512,300,128 --out caches
  linepress capture MODEL_FOLDER --text chat.txt --turns 4 --decode-from model --activations --out caches
  linepress measure caches -c huffman --layout channel

\b
prefill   the whole context in large steps
decode    a prompt, then its last --decode-tokens tokens one by one
Needs the extra: pip install 'linepress[capture]'. Only safetensors and GGUF weights are loaded, never pickles.

Exit codes: 0 ok, 3 unreadable input, 4 usage, 130 interrupted.
"""


def _list(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part for part in value.split(",") if part)


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    parts = value.split(",") if value else []
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 512,2048", ctx, param)
    return tuple(int(part) for part in parts)


@click.command(name="capture", epilog=EPILOG)
@click.argument("model")
@click.option("--text", "texts", multiple=True, required=True, metavar="FILE", help="UTF-8 text; may be repeated.")
@click.option("--out", required=True, metavar="DIR", help="Folder for the snapshots.")
@click.option(
    "--context", "contexts", callback=_numbers, default="512", show_default=True, help="Tokens, comma-separated."
)
@click.option("--phase", "phases", callback=_list, default="prefill,decode", show_default=True)
@click.option(
    "--cache",
    "caches",
    callback=_list,
    default="bf16",
    show_default=True,
    help="bf16, fp16, e4m3, e5m2:scale=tensor …",
)
@click.option("--keys", callback=_list, default="post-rope", show_default=True, help="post-rope, pre-rope or both.")
@click.option(
    "--layout",
    "arrangement",
    default="contiguous",
    show_default=True,
    help="Or batch, vllm-0.26, sglang-0.5:page-head …: list layouts.",
)
@click.option("--block-tokens", type=click.IntRange(1, 4096), default=16, show_default=True, help="Tokens a page.")
@click.option(
    "--free-blocks", type=click.IntRange(0, 1 << 20), default=0, show_default=True, help="Pages of no sequence."
)
@click.option(
    "--sequences", type=click.IntRange(1, 4096), default=1, show_default=True, help="Sequences of a snapshot."
)
@click.option("--lengths", callback=_numbers, metavar="N,…", help="Tokens of each sequence, where they differ.")
@click.option(
    "--shared-prefix", type=click.IntRange(0), default=0, show_default=True, help="Tokens all sequences share."
)
@click.option("--turns", type=click.IntRange(1, 1000), default=1, show_default=True, help="Turns of a conversation.")
@click.option("--decode-tokens", type=click.IntRange(1), default=64, show_default=True, help="Tokens fed one by one.")
@click.option("--decode-from", type=click.Choice(["text", "model"]), default="text", show_default=True)
@click.option("--layers", callback=_numbers, metavar="N,…", help="Only these layers.")
@click.option("--activations", is_flag=True, help="The residual stream into each layer, too.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 …")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order of pages.")
@json_option
def command(
    model: str,
    texts: tuple[str, ...],
    out: str,
    contexts: tuple[int, ...],
    phases: tuple[str, ...],
    caches: tuple[str, ...],
    keys: tuple[str, ...],
    arrangement: str,
    block_tokens: int,
    free_blocks: int,
    sequences: int,
    lengths: tuple[int, ...],
    shared_prefix: int,
    turns: int,
    decode_tokens: int,
    decode_from: str,
    layers: tuple[int, ...],
    activations: bool,
    device: str,
    seed: int,
    as_json: bool,
) -> int:
    """Run MODEL over texts and write its KV caches as snapshots.

    MODEL is a .gguf file, a folder with config.json and safetensors, or a hub name org/name[@revision].
    """
    from linepress.capture.capture import Text, capture
    from linepress.capture.options import CacheFormat, CaptureOptions
    from linepress.capture.runner import Runner

    options = CaptureOptions(
        contexts=(max(lengths),) if lengths else contexts,
        phases=phases,
        formats=tuple(CacheFormat.parse(text) for text in caches),
        keys=keys,
        decode_tokens=decode_tokens,
        decode_from=decode_from,
        arrangement=arrangement,
        block_tokens=block_tokens,
        free_blocks=free_blocks,
        sequences=len(lengths) or sequences,
        lengths=lengths,
        shared_tokens=shared_prefix,
        turns=turns,
        layers=layers,
        activations=activations,
        seed=seed,
    ).check()
    read = [Text.of(expanded(text)) for text in texts]

    def load(compute: str) -> Runner:
        from linepress.capture.torch_model import TorchRunner

        stderr().print(f"loading {model} in {compute}", markup=False)
        return TorchRunner(model, compute, device=device, pre_rope="pre-rope" in keys, hidden=activations)

    written = []
    for done in capture(load, read, expanded(out), options):
        written.append(
            {
                "file": str(done.path),
                "text": done.text,
                "context_tokens": done.context,
                "phase": done.phase,
                "cache": done.cache,
                "what": done.what,
                "bytes": done.n_bytes,
                "model_s": round(done.seconds, 3),
                "peak_memory_bytes": done.peak_bytes,
            }
        )
        stderr().print(f"{done.path.name}  {done.n_bytes / 1e6:.1f} MB  model {done.seconds:.1f} s", markup=False)
    if as_json:
        print_json({"model": model, "snapshots": written})
    else:
        for row in written:
            stdout().print(row["file"], markup=False)
        peak = max(int(row["peak_memory_bytes"]) for row in written) / 1e9  # type: ignore[call-overload]
        stderr().print(
            f"{len(written)} files, peak memory {peak:.2f} GB; next: linepress validate {out}/*", markup=False
        )
    return EXIT_OK
