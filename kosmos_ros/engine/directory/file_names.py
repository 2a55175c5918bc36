"""Names of the files in an engine directory."""

CONFIG_FILE = 'config.json'
TOKENIZER_FILE = 'sentencepiece.bpe.model'
WEIGHTS_FILE = 'model.safetensors'
RECIPE_FILE = 'recipe.yaml'
GOLDEN_FILE = 'golden.safetensors'
VISION_GRAPH = 'vision.onnx'
PLANS_FOLDER = 'plans'
VISION_PLAN = 'vision.plan'
DECODER_PLAN = 'decoder.plan'


def decoder_graph(tier: str) -> str:
    """The decoder's graph for a key/value tier."""
    return f'decoder.{tier}.onnx'
