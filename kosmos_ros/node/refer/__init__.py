"""The service ``refer``: boxes for expressions."""
