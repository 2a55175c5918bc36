"""Expressions and questions about views of the table, with true answers."""
