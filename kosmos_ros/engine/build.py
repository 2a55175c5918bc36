"""Checkpoints to engine directories.  Needs torch; running what was built does not (runner
onnxruntime).
"""

from collections.abc import Callable
import hashlib
import json
from pathlib import Path
import shutil

from safetensors.torch import save_file
import torch

from kosmos_ros import __version__
from kosmos_ros.engine.export import export_onnx
from kosmos_ros.engine.load import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from kosmos_ros.engine.manifest import Manifest, sha256_of
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network import Kosmos2
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.model.weights import DTYPES, load_model


def build_engine(
    checkpoint: Path,
    out: Path,
    *,
    runner: str,
    precision: str,
    name: str,
    report: Callable[[str], None] = print,
) -> Manifest:
    """Make an engine directory from a Hugging Face checkpoint directory.

    The work happens in a directory beside `out` that is renamed at the end: what is called `out`
    is always whole.

    :param checkpoint: has config.json, model.safetensors (or its shards) and
        sentencepiece.bpe.model.
    :param out: must not exist.
    :raises EngineFileError: when the checkpoint is not complete or `out` exists.
    """
    if runner == 'onnxruntime' and precision != 'fp32':
        raise EngineFileError('ONNX Runtime engines for the CPU have precision fp32')
    if out.exists():
        raise EngineFileError(f'{out} exists already; remove it or choose another --out')
    tokenizer = checkpoint / TOKENIZER_FILE
    config = Kosmos2Config.from_json(checkpoint / CONFIG_FILE)
    if (ids := Vocabulary.from_file(tokenizer).size) != config.text.vocab_size:
        raise EngineFileError(f'{tokenizer} has {ids} ids, the model {config.text.vocab_size}')
    report(f'reading {checkpoint}')
    network = load_model(checkpoint, DTYPES[precision])
    partial = out.with_name(out.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    report(f'writing an engine for {runner}, {precision}')
    if runner == 'onnxruntime':
        export_onnx(network, partial)
    else:
        _save_weights(network, partial / WEIGHTS_FILE)
    shutil.copyfile(tokenizer, partial / TOKENIZER_FILE)
    (partial / CONFIG_FILE).write_text(
        json.dumps(config.to_dict(), indent=2) + '\n', encoding='utf-8'
    )
    manifest = Manifest.of_directory(
        partial,
        name=name,
        runner=runner,
        precision=precision,
        model=_model_hash(checkpoint),
        made_by=f'kosmos_ros {__version__}, torch {torch.__version__}',
    )
    manifest.write(partial)
    partial.rename(out)
    report(f'{out} is ready')
    return manifest


def _save_weights(network: Kosmos2, path: Path) -> None:
    weights = network.state_dict()
    if network.text_model.lm_head.weight is network.decoder.embed_tokens.weight:
        del weights['text_model.lm_head.weight']
    save_file(weights, path)


def _model_hash(checkpoint: Path) -> str:
    """SHA-256 over the hashes of the weight files: the same for the same files, whatever the
    directory is called.
    """
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob('*.safetensors')):
        digest.update(f'{path.name} {sha256_of(path)}\n'.encode())
    return digest.hexdigest()
