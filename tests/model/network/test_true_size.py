"""A network of the released model's size, with random weights in bfloat16.

Every shape is the released one.  The usual run has two of the 24 equal layers of the decoder and
of the vision encoder, so it does not see how rounding adds up; `make nightly` has all.
"""

from dataclasses import replace

from memory import needs_memory
import pytest
import torch
from torch import Tensor
import torch.nn.functional as F
from transformers import Kosmos2Config, Kosmos2ForConditionalGeneration

from kosmos_ros.model.config import Kosmos2Config as OurConfig
from kosmos_ros.model.network.kosmos2 import Kosmos2
from model.network.test_kosmos2 import Reader
from model.reference import image_embeds

pytestmark = pytest.mark.parity


def random_reference(layers: int) -> Kosmos2ForConditionalGeneration:
    """Build their model without float32 weights at any time."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device('meta'):
            model = Kosmos2ForConditionalGeneration(
                Kosmos2Config(
                    text_config={'layers': layers}, vision_config={'num_hidden_layers': layers}
                )
            )
    finally:
        torch.set_default_dtype(before)
    model.to_empty(device='cpu')
    model.tie_weights()
    torch.manual_seed(0)
    # Sampling 1.7 billion numbers is slow, so all weights are slices of one vector.
    samples = (torch.randn(2**24 + 43) * 0.02).bfloat16()
    with torch.no_grad():
        for index, (name, weight) in enumerate(model.named_parameters()):
            # Each begins at a different offset, so that no two are equal.
            flat, filled, begin = weight.view(-1), 0, index * 12_345
            while filled < len(flat):
                part = samples[begin : begin + len(flat) - filled]
                flat[filled : filled + len(part)] = part
                filled, begin = filled + len(part), 0
            if weight.dim() == 1 and name.endswith('weight'):
                weight += 1
    # Tables that are not parameters are uninitialised too.
    vision = model.vision_model.model.embeddings
    vision.position_ids = torch.arange(vision.num_positions)[None]
    table = model.text_model.model.embed_positions
    table.make_weights(2050, 2048, 1)
    table.weights = table.weights.bfloat16()
    return model.eval()


def cosine(ours: Tensor, theirs: Tensor) -> float:
    """Return the lowest similarity of all rows."""
    return F.cosine_similarity(ours.float(), theirs.float(), dim=-1).min().item()


@pytest.mark.parametrize(
    ('layers', 'parameters'),
    [
        pytest.param(2, 279_035_904, marks=needs_memory(4)),
        pytest.param(
            24,
            1_664_485_376,
            marks=[pytest.mark.slow, pytest.mark.timeout(900), needs_memory(16)],
        ),
    ],
)
@torch.no_grad()
def test_equals_transformers(layers: int, parameters: int) -> None:
    torch.set_num_threads(2)
    theirs = random_reference(layers)
    config = OurConfig()
    config = replace(
        config,
        text=replace(config.text, layers=layers),
        vision=replace(config.vision, num_hidden_layers=layers),
    )
    with torch.device('meta'):
        ours = Kosmos2(config)
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    ours.eval()
    assert sum(weight.numel() for weight in theirs.parameters()) == parameters

    pixels = torch.randn(1, 3, 224, 224, dtype=torch.bfloat16)
    images = ours.vision(pixels)
    assert cosine(images, image_embeds(theirs, pixels)) > 0.999

    ids = torch.cat([torch.tensor([[0, 64003]]), torch.randint(4, 64001, (1, 79))], dim=1)
    reader = Reader(ours, rows=1, slots=81)
    logits = [reader.read(ids[:, :80], images=images), reader.read(ids[:, 80:], start=80)]
    marks = torch.zeros_like(ids)
    marks[:, 2:66] = 1
    expected = theirs(
        input_ids=ids, image_embeds=images, image_embeds_position_mask=marks, use_cache=False
    ).logits
    assert cosine(logits[0], expected[:, :80]) > 0.999
    assert cosine(logits[1], expected[:, 80:]) > 0.999
    # bfloat16 rounds the scores themselves, so near ties may fall either way, and nothing else.
    chosen = torch.cat(logits, dim=1).argmax(-1)
    lost = expected.max(-1).values - expected.gather(-1, chosen[..., None])[..., 0]
    assert lost.max() < 0.2 * expected.float().std()
    assert (chosen == expected.argmax(-1)).float().mean() > 0.8
