"""Checkpoints to engine directories.  Needs torch; running what was built does not (runner
onnxruntime).

The portable part (weights, graphs, reference answers) can be made on any machine; TensorRT's plans
are built where they run.
"""

from collections.abc import Callable
import hashlib
import json
from pathlib import Path
import shutil

from safetensors.torch import save_file
import torch

from kosmos_ros import __version__
from kosmos_ros.engine.building.estimates import Sizes, check_disk, check_memory, gigabytes
from kosmos_ros.engine.building.export import export_graphs
from kosmos_ros.engine.directory.checksums import sha256_of
from kosmos_ros.engine.directory.file_names import (
    CONFIG_FILE,
    GOLDEN_FILE,
    RECIPE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)
from kosmos_ros.engine.directory.manifest import FILE_NAME, Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.directory.reference import Golden, ask_reference, self_check
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.errors import EngineFileError, SelfCheckFailed
from kosmos_ros.model.config import HEAD, Kosmos2Config
from kosmos_ros.model.network.quantize import quantized
from kosmos_ros.model.network.weights import DTYPES, load_model
from kosmos_ros.model.tokenizer import TOKENIZER_FILES, write_tokenizer
from kosmos_ros.model.vocabulary import Vocabulary

Report = Callable[[str], None]
PARTIAL = '.partial'
# Which stages of an unfinished build are done, and of which build.
_PROGRESS_FILE = 'progress.json'


def build_engine(
    checkpoint: Path,
    out: Path,
    recipe: Recipe,
    *,
    name: str,
    source: str = '',
    report: Report = print,
) -> Manifest:
    """Make the portable part of an engine directory from a Hugging Face checkpoint directory.

    The work happens in a directory beside `out` that is renamed at the end, so what is called
    `out` is always whole.  A build that was interrupted goes on after its last finished stage.

    :param checkpoint: has config.json, model.safetensors (or its shards), and
        sentencepiece.bpe.model or tokenizer.json.
    :param out: must not exist.
    :param source: where the checkpoint was fetched from; the manifest names it.
    :raises EngineFileError: when the checkpoint is not complete or `out` exists.
    :raises EngineError: when disk or memory would not do, or the result is not what the reference
        gives.
    """
    check_absent(out)
    config = Kosmos2Config.from_json(checkpoint / CONFIG_FILE)
    recipe = recipe.within(config.text.max_position_embeddings)
    _check_image(config, recipe)
    sizes = Sizes.of(config, recipe)
    report(
        f'{sizes.parameters / 1e6:,.1f} million parameters; weights {gigabytes(sizes.weights)}, '
        f'plans up to {gigabytes(sizes.plans)}, caches {gigabytes(sizes.caches)}'
    )
    report(f'reading {checkpoint}')
    model = _model_hash(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = _Work(out.with_name(out.name + PARTIAL), _build_key(checkpoint, model, recipe))
    check_disk(out.parent, sizes.weights + sizes.plans)
    check_memory(
        sizes.export_memory,
        'making an engine of this model',
        'do it on a larger machine and copy the directory: plans are built where they run',
    )

    def tokenizer() -> None:
        write_tokenizer(checkpoint, work.folder / TOKENIZER_FILE)
        if (ids := Vocabulary.from_file(work.folder / TOKENIZER_FILE).size) != (
            config.text.vocab_size
        ):
            raise EngineFileError(
                f'the tokenizer in {checkpoint} has {ids} ids, the model {config.text.vocab_size}'
            )
        recipe.write(work.folder / RECIPE_FILE)
        text = json.dumps(config.to_dict(), indent=2) + '\n'
        (work.folder / CONFIG_FILE).write_text(text, encoding='utf-8')

    def weights() -> None:
        network = load_model(checkpoint, DTYPES[recipe.activations])
        state = network.state_dict()
        if network.text_model.lm_head.weight is network.decoder.embed_tokens.weight:
            del state[HEAD]
        if recipe.precision == 'int8':
            state = quantized(state)
        save_file(state, work.folder / WEIGHTS_FILE)
        # safetensors gives it to its owner only; an installed engine is for all users.
        (work.folder / WEIGHTS_FILE).chmod(0o644)

    def graphs() -> None:
        export_graphs(config, recipe, work.folder)

    def reference() -> None:
        vocabulary = Vocabulary.from_file(work.folder / TOKENIZER_FILE)
        network = load_model(work.folder, torch.float32)
        runner = TorchRunner(network, vocabulary.image_open)
        ask_reference(runner, vocabulary, config).write(work.folder / GOLDEN_FILE)

    work.stage('tokenizer', tokenizer, report)
    work.stage('weights', weights, report)
    work.stage('graphs', graphs, report)
    work.stage('reference answers', reference, report)
    if recipe.runner == 'onnxruntime':
        # Machines with TensorRT need not have it.
        from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner

        image_token = Vocabulary.from_file(work.folder / TOKENIZER_FILE).image_open
        runner = OnnxRuntimeRunner(work.folder, config, image_token, recipe)
        golden = Golden.read(work.folder / GOLDEN_FILE)
        try:
            for line in self_check(runner, golden, 'full', recipe.precision):
                report(f'self-check: {line}')
        except SelfCheckFailed:
            # Who tries again must not get the same stages again.
            (work.folder / _PROGRESS_FILE).unlink()
            raise
    manifest = Manifest.of_directory(
        work.folder,
        name=name,
        runner=recipe.runner,
        precision=recipe.precision,
        model=model,
        made_by=f'kosmos_ros {__version__}, torch {torch.__version__}'
        + (f', from {source}' if source else ''),
    )
    # Until now, an interruption costs no stage.
    del manifest.files[_PROGRESS_FILE]
    manifest.write(work.folder)
    (work.folder / _PROGRESS_FILE).unlink()
    work.folder.rename(out)
    report(f'{out} is ready')
    return manifest


def check_absent(out: Path) -> None:
    """
    :raises EngineFileError: when there is something that a new engine would overwrite.
    """
    if out.exists():
        raise EngineFileError(
            f'{out} exists already; remove it or choose another --out '
            '(without --checkpoint, plans for this machine are added to it)'
        )


class _Work:
    """An unfinished engine directory: it has no manifest, so nothing loads it."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self._done = self._read_done()
        if not self._done:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        # Left by an interruption between the manifest and the new name.
        (folder / FILE_NAME).unlink(missing_ok=True)

    def stage(self, name: str, work: Callable[[], None], report: Report) -> None:
        """Do a stage, unless an earlier attempt at this very build has ended it."""
        if name in self._done:
            report(f'{name}: done before')
            return
        report(f'{name} ...')
        work()
        self._done.append(name)
        draft = self.folder / f'{_PROGRESS_FILE}.part'
        draft.write_text(json.dumps({'key': self._key, 'done': self._done}), encoding='utf-8')
        draft.replace(self.folder / _PROGRESS_FILE)

    def _read_done(self) -> list[str]:
        try:
            progress = json.loads((self.folder / _PROGRESS_FILE).read_text(encoding='utf-8'))
            return list(progress['done']) if progress['key'] == self._key else []
        except (OSError, ValueError, KeyError, TypeError):
            return []


def _check_image(config: Kosmos2Config, recipe: Recipe) -> None:
    image = config.latent_query_num + 3
    if image > min(recipe.prefix, recipe.chunk):
        raise EngineFileError(
            f'an image of this model has {image} tokens; prefix and the longest shape of prefill '
            f'in the recipe have room for {recipe.prefix} and {recipe.chunk}'
        )


def _build_key(checkpoint: Path, model: str, recipe: Recipe) -> str:
    small = (checkpoint / name for name in (CONFIG_FILE, *TOKENIZER_FILES))
    files = [f'{path.name} {sha256_of(path)}' for path in small if path.is_file()]
    place = str(checkpoint.resolve())
    parts = (model, *files, repr(recipe), __version__, torch.__version__, place)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def _model_hash(checkpoint: Path) -> str:
    """SHA-256 over the hashes of the weight files: the same for the same files, whatever the
    directory is called.
    """
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob('*.safetensors')):
        digest.update(f'{path.name} {sha256_of(path)}\n'.encode())
    return digest.hexdigest()
