"""Sizes of a Kosmos-2 model, read from the ``config.json`` that ``transformers`` writes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
import json
from pathlib import Path
from typing import Any, TypeVar

from kosmos_ros.errors import EngineFileError

# Names of two weights in a checkpoint; where the head is missing, it is the embedding.
EMBEDDING = 'text_model.model.embed_tokens.weight'
HEAD = 'text_model.lm_head.weight'

_MAY_BE_ZERO = ('pad_token_id', 'no_repeat_ngram_size')

Section = TypeVar('Section', 'TextConfig', 'VisionConfig')


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Sizes of the Magneto decoder; the defaults are those of the released model."""

    vocab_size: int = 65037
    max_position_embeddings: int = 2048
    embed_dim: int = 2048
    layers: int = 24
    ffn_dim: int = 8192
    attention_heads: int = 32
    activation_function: str = 'gelu'
    layer_norm_eps: float = 1e-5
    scale_embedding: bool = True
    pad_token_id: int = 1
    add_cross_attention: bool = False
    # Used in decoding only: no n-gram of this length occurs twice in an answer; 0 means no limit.
    no_repeat_ngram_size: int = 3

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.attention_heads


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of the CLIP vision transformer; the defaults are those of the released model."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 14
    hidden_act: str = 'quick_gelu'
    layer_norm_eps: float = 1e-5

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, slots=True)
class Kosmos2Config:
    """Sizes of the whole model."""

    text: TextConfig = TextConfig()
    vision: VisionConfig = VisionConfig()
    latent_query_num: int = 64

    @classmethod
    def from_json(cls, path: Path) -> 'Kosmos2Config':
        """Read ``config.json``.

        :raises EngineFileError: when the file is missing, is not JSON, or does not describe a
            Kosmos-2 that this network implements.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, RecursionError) as error:
            raise EngineFileError(
                f'{path} cannot be read as a model configuration: {error}'
            ) from None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> 'Kosmos2Config':
        """Read the fields of a ``transformers`` configuration.

        Missing fields get the released model's values.

        :raises EngineFileError: when a field has a value that this network does not implement.
        """
        if not isinstance(content, Mapping):
            raise EngineFileError('a model configuration must be a JSON object')
        config = cls(
            text=_section(TextConfig, content.get('text_config')),
            vision=_section(VisionConfig, content.get('vision_config')),
            latent_query_num=_positive('latent_query_num', content.get('latent_query_num', 64)),
        )
        config._check()
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration in the form that ``from_dict`` reads."""
        return {
            'model_type': 'kosmos-2',
            'latent_query_num': self.latent_query_num,
            'text_config': asdict(self.text),
            'vision_config': asdict(self.vision),
        }

    def _check(self) -> None:
        text, vision = self.text, self.vision
        required = {
            'activation_function': (text.activation_function, 'gelu'),
            'hidden_act': (vision.hidden_act, 'quick_gelu'),
            'add_cross_attention': (text.add_cross_attention, False),
            'num_channels': (vision.num_channels, 3),
            'embed_dim modulo attention_heads': (text.embed_dim % text.attention_heads, 0),
            'hidden_size modulo num_attention_heads': (
                vision.hidden_size % vision.num_attention_heads,
                0,
            ),
        }
        for name, (value, expected) in required.items():
            if value != expected:
                raise EngineFileError(
                    f'{name} is {value!r}; this network implements {expected!r} only'
                )


def _section(kind: type[Section], content: Any) -> Section:
    if content is None:
        return kind()
    if not isinstance(content, Mapping):
        raise EngineFileError(f'{kind.__name__} must be a JSON object')
    values = {}
    for field in fields(kind):
        if content.get(field.name) is None:
            continue
        value = content[field.name]
        if field.name in ('image_size', 'patch_size') and isinstance(value, list):
            if len(set(value)) != 1:
                raise EngineFileError(f'{field.name} is {value!r}; only squares are implemented')
            value = value[0]
        if field.type is int and field.name not in _MAY_BE_ZERO:
            value = _positive(field.name, value)
        values[field.name] = value
    return kind(**values)


def _positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise EngineFileError(f'{name} is {value!r}; it must be a positive whole number')
    return value
