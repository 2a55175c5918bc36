"""Templates of questions, and all words of questions and answers."""

from kosmos_ros.tabletop.language.expressions import NOUNS, SHAPE_SYNONYMS, SIZES
from kosmos_ros.tabletop.language.facts import NUMBERS, PLURALS
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES

TEMPLATES: dict[str, tuple[str, ...]] = {
    'list': (
        'What do you see?',
        'What is in this image?',
        'What is on the table?',
        'What can you see in the picture?',
        'Which things are there?',
        'What objects are on the table?',
        'What is there?',
        'What is in this photo?',
        'Tell me what you see.',
    ),
    'count': (
        'How many {} are there?',
        'How many {} are there?',
        'How many {} do you see?',
        'How many {} are on the table?',
        'How many {} can you see?',
        'How many {} are in the image?',
        'How many {} are in the scene?',
        'What is the number of {}?',
        'Count the {}.',
    ),
    'count of colour': ('How many {} are {}?',),
    'colour': (
        'What colour is the {}?',
        'What colour is the {}?',
        'What color is the {}?',
        'Which colour is the {}?',
        'What is the colour of the {}?',
        'What is the color of the {}?',
        'Which colour does the {} have?',
        'Tell me the colour of the {}.',
    ),
    'shape': (
        'What shape is the {}?',
        'Which shape is the {}?',
        'What is the shape of the {}?',
        'What kind of object is the {}?',
        'Which shape does the {} have?',
    ),
    'size': (
        'How big is the {}?',
        'How large is the {}?',
        'What size is the {}?',
        'What is the size of the {}?',
        'Is the {} big or small?',
        'Is the {} small or large?',
    ),
    'existence': (
        'Is there {}?',
        'Is there {}?',
        'Is there {} on the table?',
        'Do you see {}?',
        'Can you see {}?',
        'Is there {} in this picture?',
    ),
    'existence of several': ('Are there any {}?', 'Do you see any {}?', 'Are there {}?'),
    'relation claim': ('Is the {} {} the {}?',),
    'attribute claim': ('Is the {} {}?',),
    'what': (
        'What is {} the {}?',
        'What is {} the {}?',
        'What do you see {} the {}?',
        'Which thing is {} the {}?',
        'What object is {} the {}?',
    ),
    'which': ('What is the {}?', 'Which is the {}?', 'Show me the {}.'),
    'where': (
        'Where is the {}?',
        'Where is the {}?',
        'Where is the {}?',
        'Where can you see the {}?',
        'Where do you see the {}?',
        'Find the {}.',
        'Locate the {}.',
        'Point to the {}.',
        'Please find the {}.',
    ),
    'colour of it': ('What colour is it?', 'What color is it?', 'Which colour does it have?'),
    'shape of it': ('What shape is it?', 'What is its shape?'),
    'size of it': ('How big is it?', 'What size is it?', 'Is it big or small?'),
    'location of it': ('Where is it?',),
}


def words() -> tuple[str, ...]:
    """Return every word of questions and answers, each once."""
    texts = [text for templates in TEMPLATES.values() for text in templates]
    texts += [
        *NUMBERS,
        *PLURALS.values(),
        *SIZES,
        *COLOURS,
        *SHAPES,
        *SHAPE_SYNONYMS.values(),
        *NOUNS,
    ]
    texts += ['an image of', 'describe this image in detail', 'question answer', 'it is']
    texts += ['yes no and']
    plain = ' '.join(texts).lower()
    for sign in '{}?.':
        plain = plain.replace(sign, ' ')
    return tuple(dict.fromkeys(plain.split()))
