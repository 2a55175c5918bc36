"""A runner beside its reference: what both read must be the same."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.reference import ReferenceAnswers, Tolerance
from kosmos_ros.engine.runners.embeddings import EmbeddingTables
from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.runners.static import StaticRunner
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.engine.runners.torch_program import TorchProgram
from kosmos_ros.model.network.weights import load_model

from .stand_in import PlainDevice

EXACT, CLOSE = Tolerance(1 - 1e-6, 1e-4), Tolerance(0.999, 0.02)

# Something of the runner, and the same of its reference.
Both = list[object]


def reference_of(files: EngineDirectory) -> TorchRunner:
    network = load_model(files.path, torch.float32)
    return TorchRunner(network, files.vocabulary.image_open)


def on_onnxruntime(tier: str) -> Callable[[EngineDirectory], Runner]:
    return lambda files: OnnxRuntimeRunner(
        files.path, files.config, files.vocabulary.image_open, files.recipe, tier
    )


def on_static_loop(files: EngineDirectory) -> StaticRunner:
    network = load_model(files.path, torch.float32)
    weight = network.decoder.embed_tokens.weight
    tables = EmbeddingTables.of(weight, network.text_model.lm_head.weight, files.config.text)
    image_token = files.vocabulary.image_open
    program = TorchProgram(network)
    return StaticRunner(program, PlainDevice(), tables, files.config, files.recipe, image_token)


KINDS = {
    'onnxruntime-fp32': (on_onnxruntime('matmul'), EXACT),
    'onnxruntime-int8': (on_onnxruntime('matmul'), EXACT),
    'tensorrt-fp32 matmul': (on_onnxruntime('matmul'), EXACT),
    'tensorrt-fp32 fused': (on_onnxruntime('fused'), EXACT),
    'tensorrt-fp16 matmul': (on_onnxruntime('matmul'), CLOSE),
    'tensorrt-fp16 fused': (on_onnxruntime('fused'), CLOSE),
    'tensorrt-int8 matmul': (on_onnxruntime('matmul'), CLOSE),
    'tensorrt-int8 fused': (on_onnxruntime('fused'), CLOSE),
    'onnxruntime-fp32 static': (on_static_loop, EXACT),
}


class Case:
    """One runner beside its reference, and what both have read."""

    def __init__(self, files: EngineDirectory, runner: Runner, tolerance: Tolerance) -> None:
        self.files = files
        self.both = (runner, reference_of(files))
        self.tolerance = tolerance
        self.reference = ReferenceAnswers.read(files.path / 'reference.safetensors')
        self.first = files.vocabulary.first_location

    def same(self, values: Both) -> None:
        found, wanted = (one.fetch(value) for one, value in zip(self.both, values, strict=True))
        norms = np.linalg.norm(found, axis=-1), np.linalg.norm(wanted, axis=-1)
        cosine = (found * wanted).sum(-1) / (norms[0] * norms[1])
        assert cosine.min() > self.tolerance.cosine
        assert np.abs(norms[0] / norms[1] - 1).max() < self.tolerance.norm

    def see(self, flipped: bool = False) -> Both:
        """Embeddings of a picture."""
        pixels = self.reference.pixels
        pixels = pixels[..., ::-1].copy() if flipped else pixels
        embeds = [one.vision(pixels) for one in self.both]
        self.same(embeds)
        return embeds

    def look(self, flipped: bool = False) -> Both:
        """A picture as a prefix."""
        ids = self.reference.image_ids
        read = [
            one.prefill(ids, np.array([ids.shape[1]]), images=[image])
            for one, image in zip(self.both, self.see(flipped), strict=True)
        ]
        self.same([hidden for hidden, _ in read])
        return [past for _, past in read]

    def prompts(self, rows: int, tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Random ids, ragged: the first row has all tokens, the others some."""
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, tokens + 1, rows)
        lengths[0] = tokens
        ids = rng.integers(4, self.files.vocabulary.mask, (rows, tokens))
        ids[np.arange(tokens) >= lengths[:, None]] = self.files.vocabulary.pad
        return ids, lengths

    def read(
        self,
        prefixes: Both | None,
        ids: np.ndarray,
        lengths: np.ndarray,
        reserve: int = 0,
        pasts: Both | None = None,
        images: Sequence[Both] = (),
    ) -> Both:
        read = [
            one.prefill(
                ids,
                lengths,
                prefix=prefixes[index] if prefixes else None,
                past=pasts[index] if pasts else None,
                images=[image[index] for image in images],
                reserve=reserve,
            )
            for index, one in enumerate(self.both)
        ]
        self.same([hidden for hidden, _ in read])
        return [past for _, past in read]

    def fill(self, prefixes: Both | None, rows: int, tokens: int) -> Both:
        """Rows with so many tokens, and one without some of them, read by and by."""
        pasts = None
        for begin in range(0, tokens, 8):
            ids, lengths = self.prompts(rows, min(8, tokens - begin), seed=begin)
            pasts = self.read(None if pasts else prefixes, ids, lengths, pasts=pasts)
        assert pasts is not None
        return pasts

    def step(self, ids: np.ndarray, pasts: Both) -> Both:
        read = [one.decode(ids, past) for one, past in zip(self.both, pasts, strict=True)]
        self.same([hidden for hidden, _ in read])
        scores = [
            one.logits(hidden, self.first, self.first + 1024)
            for one, (hidden, _) in zip(self.both, read, strict=True)
        ]
        self.same_scores(*scores)
        return [past for _, past in read]

    def select(self, pasts: Both, rows: Sequence[int] | np.ndarray) -> Both:
        return [past.select(np.array(rows)) for past in pasts]

    def refer(self, prefixes: Both, seed: int) -> None:
        """What a caller asks for whose steps come between those of another."""
        pasts = self.read(prefixes, *self.prompts(3, 6, seed), reserve=1)
        for rows in ([0, 0, 1, 2, 2], [1]):
            self.step(self.first + np.arange(len(rows)), self.select(pasts, rows))

    def same_scores(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """The best token is the reference's, but for ties within rounding."""
        assert found.dtype == np.float32
        assert found.shape == wanted.shape
        lost = wanted.max(1) - wanted[np.arange(len(wanted)), found.argmax(1)]
        # Vectors of this cosine differ by this share of their length, and so do random scores.
        sine = np.sqrt(2 * (1 - self.tolerance.cosine))
        assert lost.max() < 3 * sine * wanted.std()


def talk(case: Case) -> None:
    """A conversation about two pictures, with beams, and the questions of others between any two
    of its steps.
    """
    first, second, image = case.look(), case.look(flipped=True), case.see(flipped=True)
    rng = np.random.default_rng(11)
    pasts: Both | None = None
    for turn in range(2):
        text, _ = case.prompts(1, 13, seed=turn)
        pieces = [text[:, :7], np.hstack([text[:, 7:], case.reference.image_ids]), text[:, :3]]
        for index, ids in enumerate(pieces):
            prefixes = None if pasts else first
            images = [image] if index == 1 else []
            lengths = np.array([ids.shape[1]])
            pasts = case.read(prefixes, ids, lengths, reserve=1, pasts=pasts, images=images)
            case.refer(second, seed=index)
        beams = case.select(pasts, [0] * 4)
        for _ in range(10):
            beams = case.step(rng.integers(4, case.files.vocabulary.size, 4), beams)
            case.refer(second, seed=12)
            beams = case.select(beams, rng.integers(0, 4, 4))
        pasts = case.select(beams, [2])
    assert pasts is not None
    for _ in range(8):
        pasts = case.step(rng.integers(4, case.files.vocabulary.size, 1), pasts)
        case.refer(first, seed=13)
