"""The network of Kosmos-2 and its weights."""
