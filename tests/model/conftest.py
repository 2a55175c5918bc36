"""Vocabularies: the released one where its file is available, and a small one trained here."""

from collections.abc import Iterator
import io
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer
import torch

from kosmos_ros.model.vocabulary import Vocabulary

TEXT = (
    'the red mug left of the laptop on a wooden table',
    'a snowman warming himself by a fire in the dark',
    'two dogs and a cat behind the yellow chair, near 12 blue books (old)!',
    "is a < b or b > a? yes/no: 3.50 each; 7-9 o'clock",
    'déjà vu: über 日本 naïve coöperate',
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Limit torch to one thread: tiny networks are slower on many, and tests run in parallel."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def small_model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sentencepiece model like the released one, but with 120 pieces."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_writer=model,
        vocab_size=120,
        model_type='unigram',
        character_coverage=1.0,
        normalization_rule_name='nmt_nfkc',
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    path = tmp_path_factory.mktemp('tokenizer') / 'sentencepiece.bpe.model'
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope='session', params=['small', 'released'])
def model_file(request: pytest.FixtureRequest, small_model_file: Path) -> Path:
    """Return the file of each vocabulary."""
    if request.param == 'small':
        return small_model_file
    shared: Path = request.getfixturevalue('shared_data')
    return shared / 'sentencepiece.bpe.model'


@pytest.fixture(scope='session')
def vocabulary(model_file: Path) -> Vocabulary:
    """Return each vocabulary."""
    return Vocabulary.from_file(model_file)


@pytest.fixture(scope='session')
def released(shared_data: Path) -> Vocabulary:
    """Return the released vocabulary."""
    return Vocabulary.from_file(shared_data / 'sentencepiece.bpe.model')


@pytest.fixture(scope='session')
def small(small_model_file: Path) -> Vocabulary:
    """Return the small vocabulary."""
    return Vocabulary.from_file(small_model_file)
