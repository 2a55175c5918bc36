"""Repairs of the type stubs that pybind11-stubgen writes, so that a checker takes what pybind11
takes, and asks for the checks that TensorRT's return values need.
"""

import ast
import re

# What these give instead of an exception when they fail, or when there is nothing, is None.
NULLABLE = {
    'build_serialized_network',
    'create_builder_config',
    'create_execution_context',
    'create_network',
    'create_optimization_profile',
    'create_timing_cache',
    'deserialize_cuda_engine',
    'get_aliased_input_tensor',
    'get_timing_cache',
}
RENAMED = {
    # The module has variables of these names.
    'bool': 'builtins.bool',
    # pybind11 refuses floats, which have __int__.
    'typing.SupportsInt': 'typing.SupportsIndex',
    # From pybind11 before 3.0.
    'buffer': 'typing_extensions.Buffer',
}
# What pybind11 does not tell.
ADDED = {
    'Dims': 'def __iter__(self) -> collections.abc.Iterator[int]: ...',
    'IHostMemory': 'def __buffer__(self, flags: int) -> memoryview: ...',
}
HEAD = """
import builtins
import collections.abc
import numpy
import typing
import typing_extensions
__version__: str
"""


class _Rename(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in RENAMED:
            return ast.parse(RENAMED[ast.unparse(node)], mode='eval').body
        return self.generic_visit(node)


class _Repair(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr:  # noqa: N802 - ast asks for this name
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Expr(ast.Constant(...)) if is_text else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:  # noqa: N802
        node.annotation = _Rename().visit(node.annotation)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | None:  # noqa: N802
        # With blocks are deprecated and free nothing.
        if node.name in ('__enter__', '__exit__'):
            return None
        node.body = [ast.Expr(ast.Constant(...))]
        for argument in node.args.args:
            if argument.annotation is not None:
                argument.annotation = _parameter(argument.annotation)
        if node.returns is not None:
            node.returns = _Rename().visit(node.returns)
            if node.name in NULLABLE:
                node.returns = ast.parse(f'{ast.unparse(node.returns)} | None', mode='eval').body
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:  # noqa: N802
        self.generic_visit(node)
        node.body = node.body or [ast.Expr(ast.Constant(...))]
        if node.name in ADDED:
            node.body += ast.parse(ADDED[node.name]).body
        return node


def _parameter(annotation: ast.expr) -> ast.expr:
    """A parameter's type, with the sequences that pybind11 converts to Dims."""
    if isinstance(annotation, ast.Name) and annotation.id == 'Dims':
        return ast.parse('Dims | collections.abc.Sequence[int]', mode='eval').body
    return _Rename().visit(annotation)


def _as_python(stub: str) -> str:
    """The stub without what Python's grammar forbids and pybind11 does not."""
    # The name of a keyword as that of a parameter.
    stub = re.sub(r'\bin: ', 'in_: ', stub)
    # Defaults before parameters that have none.
    found = 1
    while found:
        stub, found = re.subn(r' = [^,()\n]+(?=, \w+: [^=,()\n]+[,)])', '', stub)
    return stub


def repaired(stub: str) -> str:
    """Text of a stub file, without docstrings."""
    tree = _Repair().visit(ast.parse(_as_python(stub)))
    head = [node for node in tree.body if getattr(node, 'module', None) == '__future__']
    rest = [node for node in tree.body if node not in head]
    tree.body = [*head, *ast.parse(HEAD).body, *rest]
    return ast.unparse(ast.fix_missing_locations(tree)) + '\n'
