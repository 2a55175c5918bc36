"""The part `transformers`: what a user of that library has, with the same weights."""

from typing import Any

import numpy as np
from safetensors.torch import load_file
import torch
from torch import Tensor
from transformers import Kosmos2Config, Kosmos2ForConditionalGeneration

from gpu_check.questions import EXPRESSIONS, picture
from gpu_check.task import Findings, Task
from kosmos_ros.engine.base import Floats
from kosmos_ros.engine.directory.directory import REFERENCE_FILE, WEIGHTS_FILE, EngineDirectory
from kosmos_ros.engine.directory.reference import TOLERANCES, ReferenceAnswers
from kosmos_ros.engine.timing import timed
from kosmos_ros.errors import SelfCheckFailed
from kosmos_ros.model import prompts
from kosmos_ros.model.boxes import CELLS
from kosmos_ros.model.config import EMBEDDING, HEAD
from kosmos_ros.model.preprocess import pixels_from_image


def eager(task: Task, findings: Findings) -> None:
    """Compare with the reference answers, and time ``generate``."""
    accelerator = task.open_accelerator()
    used = accelerator.used_bytes()
    files = EngineDirectory.verified(task.engine)
    theirs = Theirs(files, accelerator.device(graphs=False).torch_device)
    findings.line('transformers is loaded')
    for line in theirs.compare(ReferenceAnswers.read(files.path / REFERENCE_FILE)):
        findings.line(line)
    image, expression = picture(), EXPRESSIONS[0]
    pixels = pixels_from_image(image, files.config.vision.image_size)
    embeds = theirs.image_embeds(pixels)
    for name, work in (
        # An engine of ours keeps what it has read of an image; generate can be given no more than
        # its embeddings.
        ('expression', lambda: theirs.ask(expression, image_embeds=embeds)),
        ('image_and_expression', lambda: theirs.look_and_ask(image, expression)),
    ):
        findings.figure(name, timed(work, task.runs, task.most_s).as_dict())
    findings.figure('peak_bytes', accelerator.peak_bytes())
    findings.figure('grown_bytes', accelerator.used_bytes() - used)


class Theirs:
    """Kosmos-2 of transformers in half precision, with an engine's weights."""

    def __init__(self, files: EngineDirectory, device: torch.device) -> None:
        self._files = files
        self._device = device
        content = files.config.to_dict()
        # Of decoding, and no size.
        del content['text_config']['no_repeat_ngram_size']
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float16)
        try:
            with device:
                model: Any = Kosmos2ForConditionalGeneration(Kosmos2Config(**content))
        finally:
            torch.set_default_dtype(usual)
        weights = load_file(files.path / WEIGHTS_FILE)
        weights.setdefault(HEAD, weights[EMBEDDING])
        model.load_state_dict(weights, strict=True)
        self._model = model.eval()
        self._prefix = prompts.image_prefix(files.vocabulary, files.config.latent_query_num)

    @torch.inference_mode()
    def compare(self, reference: ReferenceAnswers) -> list[str]:
        """Give it the image and the prompts of our reference; return lines for people.

        :raises SelfCheckFailed: when it gives other embeddings or location scores.
        """
        lines = [_compare('image', self.image_embeds(reference.pixels)[0], reference.embeds[0])]
        first = int(reference.first_location)
        for row, length in enumerate(reference.lengths):
            ids = [*self._prefix, *reference.ids[row, :length].tolist()]
            made = self._model(**self._inputs(ids), pixel_values=self._pixels(reference.pixels))
            found = made.logits[0, -1:, first : first + CELLS]
            lines.append(_compare(f'prompt {row}', found, reference.logits[row : row + 1]))
        return lines

    @torch.inference_mode()
    def image_embeds(self, pixels: Floats) -> Tensor:
        """Return the embeddings [1,K,D] of normalised pixels [1,3,I,I]."""
        # No smaller part of the model is public in all versions.
        made = self._model(**self._inputs(self._prefix), pixel_values=self._pixels(pixels))
        embeds: Tensor = made.image_embeds
        return embeds

    @torch.inference_mode()
    def ask(self, expression: str, **image: Tensor) -> list[int]:
        """Generate the box of an expression, up to ``</object>``: three tokens, as ours."""
        vocabulary = self._files.vocabulary
        ids = [*self._prefix, *prompts.refer_prompt(vocabulary, expression)]
        made = self._model.generate(
            **self._inputs(ids),
            **image,
            max_new_tokens=prompts.BOX_TOKENS,
            min_new_tokens=prompts.BOX_TOKENS,
            do_sample=False,
            pad_token_id=vocabulary.pad,
            eos_token_id=vocabulary.eos,
        )
        box: list[int] = made[0, len(ids) :].tolist()
        return box

    def look_and_ask(self, image: np.ndarray, expression: str) -> list[int]:
        """Do the same from a camera's picture."""
        pixels = pixels_from_image(image, self._files.config.vision.image_size)
        return self.ask(expression, pixel_values=self._pixels(pixels))

    def _inputs(self, ids: list[int]) -> dict[str, Any]:
        tokens = torch.tensor([ids], device=self._device)
        marks = torch.zeros_like(tokens)
        marks[:, 2 : 2 + self._files.config.latent_query_num] = 1
        return {
            'input_ids': tokens,
            'attention_mask': torch.ones_like(tokens),
            'image_embeds_position_mask': marks,
        }

    def _pixels(self, pixels: Floats) -> Tensor:
        return torch.from_numpy(pixels).to(self._device, torch.float16)


def _compare(what: str, found: Tensor, wanted: Floats) -> str:
    """Compare rows [n,d], as the self-check does."""
    tolerance = TOLERANCES['fp16']
    ours = torch.from_numpy(wanted)
    theirs = found.float().cpu()
    cosine = torch.cosine_similarity(theirs, ours).min().item()
    norm = (theirs.norm(dim=-1) / ours.norm(dim=-1) - 1).abs().max().item()
    line = f'{what}: cosine {cosine:.6f} with our reference, norm off by {norm:.5f}'
    # Written so that values that are no numbers do not pass.
    if not (cosine >= tolerance.cosine and norm <= tolerance.norm):
        raise SelfCheckFailed(f'transformers gives other answers: {line}')
    return line
