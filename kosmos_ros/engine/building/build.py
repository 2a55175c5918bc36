"""From a checkpoint to an engine directory.  Needs torch; running it on ONNX Runtime does not.

The portable part (weights, graphs, reference answers) can be made on any machine; TensorRT's plans
are built where they run.
"""

import hashlib
import json
from pathlib import Path

from safetensors.torch import save_file
import torch

from kosmos_ros import __version__
from kosmos_ros.engine.base import Report
from kosmos_ros.engine.building.estimates import (
    Estimates,
    PlanEstimates,
    check_disk,
    check_memory,
    gigabytes,
    return_freed_memory,
)
from kosmos_ros.engine.building.export import export_graphs
from kosmos_ros.engine.building.stages import PARTIAL, PROGRESS_FILE, BuildStages
from kosmos_ros.engine.directory.checksums import sha256_of
from kosmos_ros.engine.directory.directory import (
    CONFIG_FILE,
    RECIPE_FILE,
    REFERENCE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.directory.reference import ReferenceAnswers, compute_reference, self_check
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.engine.tensorrt.installed import CLASSIC, Release, installed_tensorrt
from kosmos_ros.errors import EngineFileError, RunnerUnavailable, SelfCheckFailed
from kosmos_ros.model.config import HEAD, Kosmos2Config
from kosmos_ros.model.network.quantize import quantized
from kosmos_ros.model.network.weights import DTYPES, load_model
from kosmos_ros.model.tokenizer import TOKENIZER_FILES, write_tokenizer
from kosmos_ros.model.vocabulary import Vocabulary


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

    The work happens in a directory beside `out` that is renamed at the end, so `out` is always
    whole.  A build that was interrupted goes on after its last finished stage.

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
    sizes, plans = Estimates.of(config, recipe), _plans(config, recipe)
    report(
        f'{sizes.parameters / 1e6:,.1f} million parameters; weights {gigabytes(sizes.weights)}, '
        f'plans up to {gigabytes(plans)}, caches {gigabytes(sizes.caches)}'
    )
    report(f'reading {checkpoint}')
    model = _model_hash(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    return_freed_memory()
    stages = BuildStages(out.with_name(out.name + PARTIAL), _build_key(checkpoint, model, recipe))
    check_disk(out.parent, sizes.weights + plans, 'make room, or choose another --out')
    check_memory(
        sizes.export_memory,
        'making an engine of this model',
        'do it on a larger machine and copy the directory',
    )

    def tokenizer() -> None:
        write_tokenizer(checkpoint, stages.folder / TOKENIZER_FILE)
        if (ids := Vocabulary.from_file(stages.folder / TOKENIZER_FILE).size) != (
            config.text.vocab_size
        ):
            raise EngineFileError(
                f'the tokenizer in {checkpoint} has {ids} ids, the model {config.text.vocab_size}'
            )
        recipe.write(stages.folder / RECIPE_FILE)
        text = json.dumps(config.to_dict(), indent=2) + '\n'
        (stages.folder / CONFIG_FILE).write_text(text, encoding='utf-8')

    def weights() -> None:
        network = load_model(checkpoint, DTYPES[recipe.activations])
        state = network.state_dict()
        if network.text_model.lm_head.weight is network.decoder.embed_tokens.weight:
            del state[HEAD]
        if recipe.precision == 'int8':
            state = quantized(state)
        save_file(state, stages.folder / WEIGHTS_FILE)
        # safetensors gives it to its owner only; an installed engine is for all users.
        (stages.folder / WEIGHTS_FILE).chmod(0o644)

    def graphs() -> None:
        export_graphs(config, recipe, stages.folder)

    def reference_answers() -> None:
        vocabulary = Vocabulary.from_file(stages.folder / TOKENIZER_FILE)
        network = load_model(stages.folder, torch.float32)
        runner = TorchRunner(network, vocabulary.image_open)
        compute_reference(runner, vocabulary, config).write(stages.folder / REFERENCE_FILE)

    stages.run('tokenizer', tokenizer, report)
    stages.run('weights', weights, report)
    stages.run('graphs', graphs, report)
    stages.run('reference answers', reference_answers, report)
    if recipe.runner == 'onnxruntime':
        # Machines with TensorRT need not have it.
        from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner

        image_token = Vocabulary.from_file(stages.folder / TOKENIZER_FILE).image_open
        runner = OnnxRuntimeRunner(stages.folder, config, image_token, recipe)
        reference = ReferenceAnswers.read(stages.folder / REFERENCE_FILE)
        try:
            for line in self_check(runner, reference, 'full', recipe.precision):
                report(f'self-check: {line}')
        except SelfCheckFailed:
            # The next attempt must not find the same stages.
            stages.forget()
            raise
    manifest = Manifest.of_directory(
        stages.folder,
        name=name,
        runner=recipe.runner,
        precision=recipe.precision,
        model=model,
        made_by=f'kosmos_ros {__version__}, torch {torch.__version__}'
        + (f', from {source}' if source else ''),
    )
    # Until now, an interruption costs no stage.
    del manifest.files[PROGRESS_FILE]
    manifest.write(stages.folder)
    stages.forget()
    stages.folder.rename(out)
    report(f'{out} is ready')
    return manifest


def check_absent(out: Path) -> None:
    """Refuse to overwrite anything.

    :raises EngineFileError: when `out` exists.
    """
    if out.exists():
        raise EngineFileError(
            f'{out} exists already; remove it or choose another --out '
            '(without --checkpoint, plans for this machine are added to it)'
        )


def _plans(config: Kosmos2Config, recipe: Recipe) -> int:
    """Return an upper estimate of the plans that TensorRT will make, here or elsewhere, bytes."""
    if recipe.runner != 'tensorrt':
        return 0
    try:
        release = installed_tensorrt().release
    except RunnerUnavailable:
        release = Release(CLASSIC, '')
    return PlanEstimates.of(config, recipe, release).plans


def _check_image(config: Kosmos2Config, recipe: Recipe) -> None:
    image = config.latent_query_num + 3
    if image > min(recipe.prefix, recipe.chunk):
        raise EngineFileError(
            f'an image of this model has {image} tokens; prefix and the longest shape of prefill '
            f'in the recipe have slots for {recipe.prefix} and {recipe.chunk}'
        )


def _build_key(checkpoint: Path, model: str, recipe: Recipe) -> str:
    small = (checkpoint / name for name in (CONFIG_FILE, *TOKENIZER_FILES))
    files = [f'{path.name} {sha256_of(path)}' for path in small if path.is_file()]
    path = str(checkpoint.resolve())
    parts = (model, *files, repr(recipe), __version__, torch.__version__, path)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def _model_hash(checkpoint: Path) -> str:
    """Return the SHA-256 over the hashes of the weight files, whatever the directory is called."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob('*.safetensors')):
        digest.update(f'{path.name} {sha256_of(path)}\n'.encode())
    return digest.hexdigest()
