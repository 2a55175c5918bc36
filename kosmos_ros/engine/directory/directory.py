"""An engine directory: the names of its files, and the check of all of them."""

from dataclasses import dataclass
from pathlib import Path

from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.tiers import MATMUL, TIERS
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.vocabulary import Vocabulary

CONFIG_FILE = 'config.json'
TOKENIZER_FILE = 'sentencepiece.bpe.model'
WEIGHTS_FILE = 'model.safetensors'
RECIPE_FILE = 'recipe.yaml'
REFERENCE_FILE = 'reference.safetensors'
VISION_GRAPH = 'vision.onnx'
PLANS_FOLDER = 'plans'
VISION_PLAN = 'vision.plan'
DECODER_PLAN = 'decoder.plan'
# Files of every engine, besides the decoder's graphs.
_REQUIRED = (
    CONFIG_FILE,
    RECIPE_FILE,
    REFERENCE_FILE,
    TOKENIZER_FILE,
    VISION_GRAPH,
    WEIGHTS_FILE,
)


def decoder_graph(tier: str) -> str:
    """Return the file name of the decoder's graph for a tier."""
    return f'decoder.{tier}.onnx'


@dataclass(frozen=True, slots=True)
class EngineDirectory:
    """An engine directory, every byte of which was checked; `verified` makes one."""

    path: Path
    manifest: Manifest
    recipe: Recipe
    config: Kosmos2Config
    vocabulary: Vocabulary

    @classmethod
    def verified(cls, path: Path) -> 'EngineDirectory':
        """Check all files of a directory and read the small ones.

        :raises EngineFileError: when a file is missing or damaged, or files do not belong
            together.
        """
        manifest = Manifest.read(path)
        tiers = TIERS if manifest.runner == 'tensorrt' else (MATMUL,)
        for name in (*_REQUIRED, *(decoder_graph(tier.name) for tier in tiers)):
            if name not in manifest.files:
                raise EngineFileError(
                    f'{path}: the manifest does not name {name}; copy or build the engine again'
                )
        config = Kosmos2Config.from_json(path / CONFIG_FILE)
        vocabulary = Vocabulary.from_file(path / TOKENIZER_FILE)
        if vocabulary.size != config.text.vocab_size:
            raise EngineFileError(
                f'{path}: the tokenizer has {vocabulary.size} ids, the model '
                f'{config.text.vocab_size}; they do not belong together'
            )
        recipe = Recipe.from_yaml(path / RECIPE_FILE)
        if (recipe.runner, recipe.precision) != (manifest.runner, manifest.precision):
            raise EngineFileError(
                f'{path}: the recipe is for {recipe.runner}, {recipe.precision}, the '
                f'manifest for {manifest.runner}, {manifest.precision}; they differ'
            )
        return cls(path, manifest, recipe, config, vocabulary)
