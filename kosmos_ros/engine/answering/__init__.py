"""From a prompt to an answer: boxes for expressions, words for questions."""
