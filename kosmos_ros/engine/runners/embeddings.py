"""The tables that stay outside of compiled plans: embedding, head and positions.  Needs torch."""

from dataclasses import dataclass
import math
from pathlib import Path

from safetensors import safe_open
import torch
from torch import Tensor

from kosmos_ros.model.config import EMBEDDING, HEAD, TextConfig
from kosmos_ros.model.network.positions import sinusoidal_positions


@dataclass(frozen=True, slots=True)
class EmbeddingTables:
    """Embedding and head by id, positions by index; on the device."""

    embedding: Tensor  # [V,D]
    head: Tensor  # [V,D], as a rule the same memory
    positions: Tensor  # float32[T,D]
    scale: float

    @classmethod
    def from_file(cls, path: Path, text: TextConfig, device: torch.device) -> 'EmbeddingTables':
        """Read the tables from an engine's verified weight file."""
        with safe_open(path, framework='pt', device=str(device)) as file:
            embedding = file.get_tensor(EMBEDDING)
            head = file.get_tensor(HEAD) if HEAD in file.keys() else embedding  # noqa: SIM118
        return cls.of(embedding, head, text)

    @classmethod
    def of(cls, embedding: Tensor, head: Tensor, text: TextConfig) -> 'EmbeddingTables':
        """Put embedding and head together with computed positions."""
        positions = sinusoidal_positions(
            text.max_position_embeddings, text.embed_dim, text.pad_token_id
        )
        return cls(
            embedding,
            head,
            # float32 whatever the weights are: bfloat16 cannot tell neighbours apart.
            torch.from_numpy(positions).to(embedding.device),
            math.sqrt(text.embed_dim) if text.scale_embedding else 1.0,
        )

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Scale token or image embeddings [B,Q,D] and add positions int64[B,Q] -> [B,Q,D]."""
        return (tokens * self.scale + self.positions[positions]).to(tokens.dtype)
