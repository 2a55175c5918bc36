"""The Kosmos-2 model: configuration, network, weights, vocabulary, prompts, boxes, images."""
