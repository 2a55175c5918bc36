"""Engine directories to engines: which runner, and why that one."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from kosmos_ros.engine.base import Engine
from kosmos_ros.engine.directory.file_names import (
    CONFIG_FILE,
    GOLDEN_FILE,
    RECIPE_FILE,
    TOKENIZER_FILE,
    VISION_GRAPH,
    WEIGHTS_FILE,
    decoder_graph,
)
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.packaged import engines_folder
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.directory.reference import LEVELS, Golden, self_check
from kosmos_ros.engine.kosmos2 import GroundingEngine
from kosmos_ros.engine.machine import gpu, this_machine
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.tensorrt.operators import PRODUCTS, TIERS
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable
from kosmos_ros.limits import Limits
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.testing.fake_engine import FakeEngine

Report = Callable[[str], None]
BUILD_PLANS = ('never', 'missing', 'only')
# What runs an engine, fastest first: with 'auto', the first of these that works.
TENSORRT, TORCH_CUDA = 'TensorRT', 'PyTorch on a GPU'
ONNXRUNTIME, TORCH_CPU = 'ONNX Runtime', 'PyTorch on the CPU'
_ORDER = (TENSORRT, TORCH_CUDA, ONNXRUNTIME, TORCH_CPU)
_FORCED = {
    'tensorrt': (TENSORRT,),
    'torch': (TORCH_CUDA, TORCH_CPU),
    'onnxruntime': (ONNXRUNTIME,),
}
# Files of every engine, besides the decoder's graphs.
_ALWAYS = (
    CONFIG_FILE,
    GOLDEN_FILE,
    RECIPE_FILE,
    TOKENIZER_FILE,
    VISION_GRAPH,
    WEIGHTS_FILE,
)
_AUTO = {'tensorrt': _ORDER, 'onnxruntime': (ONNXRUNTIME, TORCH_CPU)}


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """An engine directory, every byte of it checked."""

    directory: Path
    manifest: Manifest
    recipe: Recipe
    config: Kosmos2Config
    vocabulary: Vocabulary

    @classmethod
    def verified(cls, directory: Path) -> 'EngineFiles':
        """
        :raises EngineFileError: when anything of it is missing or damaged, or does not belong
            together.
        """
        manifest = Manifest.read(directory)
        tiers = TIERS if manifest.runner == 'tensorrt' else (PRODUCTS,)
        for name in (*_ALWAYS, *(decoder_graph(tier.name) for tier in tiers)):
            if name not in manifest.files:
                raise EngineFileError(
                    f'{directory}: the manifest does not name {name}; copy or build the engine '
                    'again'
                )
        config = Kosmos2Config.from_json(directory / CONFIG_FILE)
        vocabulary = Vocabulary.from_file(directory / TOKENIZER_FILE)
        if vocabulary.size != config.text.vocab_size:
            raise EngineFileError(
                f'{directory}: the tokenizer has {vocabulary.size} ids, the model '
                f'{config.text.vocab_size}; they do not belong together'
            )
        recipe = Recipe.from_yaml(directory / RECIPE_FILE)
        if (recipe.runner, recipe.precision) != (manifest.runner, manifest.precision):
            raise EngineFileError(
                f'{directory}: the recipe is for {recipe.runner}, {recipe.precision}, the '
                f'manifest for {manifest.runner}, {manifest.precision}; they differ'
            )
        return cls(directory, manifest, recipe, config, vocabulary)


def load_engine(
    path: Path | None = None,
    runner: str = 'auto',
    limits: Limits | None = None,
    *,
    self_check: str = 'off',
    build_plans: str = 'never',
    report: Report = lambda line: None,
) -> Engine:
    """Verify an engine directory, then load it.

    :param path: the directory; None is the embedded tabletop engine.
    :param runner: 'auto', 'tensorrt', 'torch', 'onnxruntime', or 'fake' (then `path` is the script
        of a `FakeEngine`).
    :param self_check: 'off', 'quick' or 'full': whether the engine must first give its stored
        reference answers.
    :param build_plans: 'never', 'missing' or 'only': the latter two build plans of TensorRT that
        this machine lacks.
    :param report: is told how far it has come, in short lines.
    :raises EngineFileError: when anything of it is missing or damaged.
    :raises RunnerUnavailable: when this machine cannot run it.
    :raises SelfCheckFailed: when it gives other answers than the reference.
    """
    if runner == 'fake':
        if path is None:
            raise EngineFileError('the runner fake needs the path of a script as engine')
        return FakeEngine.from_file(path, report)
    report('checking the files')
    files = EngineFiles.verified(path if path is not None else embedded_engine())
    loaded, remarks = open_runner(
        files, runner, level=self_check, build_plans=build_plans, report=report
    )
    return GroundingEngine(
        files.manifest.name, loaded, files.vocabulary, files.config, limits, remarks
    )


def open_runner(
    files: EngineFiles, runner: str, *, level: str, build_plans: str, report: Report
) -> tuple[Runner, tuple[str, ...]]:
    """The fastest runner that works here, and what was passed over for which reason.

    :raises RunnerUnavailable: when none does.
    :raises EngineFileError: when something of the engine is damaged.
    :raises EngineError: why the last of them failed; SelfCheckFailed when it gives other answers
        than the reference.
    """
    if level not in LEVELS or build_plans not in BUILD_PLANS:
        raise ValueError(f'self_check is {level!r} and build_plans {build_plans!r}')
    if runner != 'auto' and runner not in _FORCED:
        known = ', '.join(_FORCED)
        raise EngineFileError(f'there is no runner {runner!r}; there is auto, {known}')
    if runner == 'tensorrt' and files.recipe.runner != runner:
        raise RunnerUnavailable(
            f'{files.directory} was made for {files.recipe.runner}; build one by a recipe for '
            'TensorRT, such as desktop'
        )
    candidates = _AUTO[files.recipe.runner] if runner == 'auto' else _FORCED[runner]
    if build_plans != 'never' and TENSORRT not in candidates:
        report('plans: this engine is not run by TensorRT, so it has none')
    remarks: list[str] = []
    for candidate in candidates:
        report(f'loading by {candidate}')
        try:
            loaded = _OPEN[candidate](files, build_plans, report)
            _check(loaded, files, level, report)
        except EngineFileError:
            # What is damaged is damaged for all of them.
            raise
        except EngineError as error:
            failed = not isinstance(error, RunnerUnavailable)
            # Who asked for plans and nothing else has no use for another runner.
            if (failed and candidate == candidates[-1]) or (
                build_plans == 'only' and candidate == TENSORRT
            ):
                raise
            remarks.append(f'not by {candidate}: {error}')
            continue
        return loaded, tuple(remarks)
    raise RunnerUnavailable(f'{files.directory} cannot be run here: {"; ".join(remarks)}')


def _check(loaded: Runner, files: EngineFiles, level: str, report: Report) -> None:
    """
    :raises SelfCheckFailed: when it gives other answers than the reference; then it is closed.
    """
    if level == 'off':
        return
    golden = Golden.read(files.directory / GOLDEN_FILE)
    try:
        for line in self_check(loaded, golden, level, files.recipe.precision):
            report(f'self-check {level}: {line}')
        report(f'self-check {level} passed')
    except EngineError:
        loaded.close()
        raise


def embedded_engine() -> Path:
    """The tabletop engine that comes with the package.

    :raises EngineFileError: when it is not there.
    """
    return engines_folder() / 'tabletop'


def _tensorrt(files: EngineFiles, build_plans: str, report: Report) -> Runner:
    need('torch', 'install PyTorch with CUDA for this machine')
    need('safetensors', 'pip install safetensors')
    machine = this_machine()
    # It imports TensorRT, which is here, as we know now.
    from kosmos_ros.engine.runners.cuda import memory_of_gpu
    from kosmos_ros.engine.tensorrt.missing_plans import open_tensorrt, plans_for

    with memory_of_gpu():
        plans = plans_for(files, machine, build_plans != 'never', report)
        return open_tensorrt(files, plans, machine)


def _torch_cuda(files: EngineFiles, build_plans: str, report: Report) -> Runner:
    need('torch', 'install PyTorch with CUDA for this machine')
    need('safetensors', 'pip install safetensors')
    from kosmos_ros.engine.runners.cuda import CudaDevice, memory_of_gpu
    from kosmos_ros.engine.runners.embeddings import Tables
    from kosmos_ros.engine.runners.static import StaticRunner
    from kosmos_ros.engine.runners.torch import TorchProgram
    from kosmos_ros.model.network.weights import DTYPES, load_model

    gpu()
    device = CudaDevice()
    with memory_of_gpu():
        network = load_model(files.directory, DTYPES[files.recipe.activations])
        network = network.to(device.torch_device)
        head = network.text_model.lm_head.weight
        tables = Tables.of(network.decoder.embed_tokens.weight, head, files.config.text)
        return StaticRunner(
            TorchProgram(network),
            device,
            tables,
            files.config,
            files.recipe,
            files.vocabulary.image_open,
        )


def _onnxruntime(files: EngineFiles, build_plans: str, report: Report) -> Runner:
    need('safetensors', 'pip install safetensors')
    need('kosmos_ros.engine.runners.onnxruntime', 'pip install onnxruntime')
    from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(
        files.directory, files.config, files.vocabulary.image_open, files.recipe
    )


def _torch_cpu(files: EngineFiles, build_plans: str, report: Report) -> Runner:
    need('torch', 'install PyTorch for this machine')
    need('safetensors', 'pip install safetensors')
    from kosmos_ros.engine.runners.torch import TorchRunner
    from kosmos_ros.model.network.weights import DTYPES, load_model

    network = load_model(files.directory, DTYPES[files.recipe.activations])
    return TorchRunner(network, files.vocabulary.image_open)


_OPEN: dict[str, Callable[[EngineFiles, str, Report], Runner]] = {
    TENSORRT: _tensorrt,
    TORCH_CUDA: _torch_cuda,
    ONNXRUNTIME: _onnxruntime,
    TORCH_CPU: _torch_cpu,
}


def need(module: str, cure: str) -> None:
    """
    :raises RunnerUnavailable: when a Python package is missing, with how to get it.
    """
    try:
        import_module(module)
    except ImportError as error:
        package = error.name or module
        raise RunnerUnavailable(f'the Python package {package} is missing ({cure})') from error
