"""Kosmos-2 itself: configuration, network, weights, vocabulary, prompts, boxes, preprocessing."""
