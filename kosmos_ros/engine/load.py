"""Engine directories to engines."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from kosmos_ros.engine.base import Engine
from kosmos_ros.engine.fake import FakeEngine
from kosmos_ros.engine.grounding import GroundingEngine
from kosmos_ros.engine.manifest import Manifest
from kosmos_ros.engine.runner import Runner
from kosmos_ros.errors import EngineFileError
from kosmos_ros.limits import Limits
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.vocabulary import Vocabulary

CONFIG_FILE = 'config.json'
TOKENIZER_FILE = 'sentencepiece.bpe.model'
WEIGHTS_FILE = 'model.safetensors'


def load_engine(
    path: Path | None = None, runner: str = 'auto', limits: Limits | None = None
) -> Engine:
    """Verify an engine directory, then load it.

    :param path: the directory; None is the embedded tabletop engine.
    :param runner: 'auto', the name of the runner that the engine must be for, or 'fake' (then
        `path` is the script of a `FakeEngine`).
    :raises EngineFileError: when anything of it is missing, damaged, or cannot run on this
        machine.
    """
    if runner == 'fake':
        if path is None:
            raise EngineFileError('the runner fake needs the path of a script as engine')
        return FakeEngine.from_file(path)
    directory = path if path is not None else embedded_engine()
    manifest = Manifest.read(directory)
    if runner not in ('auto', manifest.runner):
        raise EngineFileError(
            f'{directory} is an engine for {manifest.runner}, not for {runner}; '
            f'build one with `kosmos_ros engine build --runner {runner}` or set runner to auto'
        )
    if manifest.runner not in _RUNNERS:
        known = ', '.join(_RUNNERS)
        raise EngineFileError(
            f'{directory} needs the runner {manifest.runner!r}; this version has {known}'
        )
    config = Kosmos2Config.from_json(directory / CONFIG_FILE)
    vocabulary = Vocabulary.from_file(directory / TOKENIZER_FILE)
    if vocabulary.size != config.text.vocab_size:
        raise EngineFileError(
            f'{directory}: the tokenizer has {vocabulary.size} ids, the model '
            f'{config.text.vocab_size}; they do not belong together'
        )
    loaded = _RUNNERS[manifest.runner](
        directory, manifest.precision, config, vocabulary.image_open
    )
    return GroundingEngine(manifest.name, loaded, vocabulary, config, limits)


def embedded_engine() -> Path:
    """The tabletop engine that comes with the package, in a checkout or installed under a prefix.

    :raises EngineFileError: when it is in neither.
    """
    for folder in Path(__file__).resolve().parents:
        for place in ('engines/tabletop', 'share/kosmos_ros/engines/tabletop'):
            if (folder / place).is_dir():
                return folder / place
    raise EngineFileError(
        'the embedded engine engines/tabletop is missing; install kosmos_ros again'
    )


def _onnxruntime(
    directory: Path, precision: str, config: Kosmos2Config, image_token: int
) -> Runner:
    _need('onnxruntime', 'pip install onnxruntime')
    from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(directory, config, image_token)


def _torch(directory: Path, precision: str, config: Kosmos2Config, image_token: int) -> Runner:
    _need('torch', 'install PyTorch for this machine, see docs/architecture.md')
    _need('safetensors', 'pip install safetensors')
    import torch

    from kosmos_ros.engine.runners.torch import TorchRunner
    from kosmos_ros.model.weights import DTYPES, load_model

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return TorchRunner(load_model(directory, DTYPES[precision]).to(device), image_token)


_RUNNERS: dict[str, Callable[[Path, str, Kosmos2Config, int], Runner]] = {
    'onnxruntime': _onnxruntime,
    'torch': _torch,
}


def _need(module: str, cure: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise EngineFileError(
            f'this engine needs the Python package {module}, which is not there: {cure}'
        ) from error
