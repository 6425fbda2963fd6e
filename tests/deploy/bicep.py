"""What a Bicep file declares and calls, read with tree-sitter. Types are Bicep's: string, int, bool, array, object.

Bicep's compiler would say more: whether Azure has such types and properties. It is not to be had without a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_LITERALS = {"string": "string", "number": "int", "boolean": "bool", "array": "array", "object": "object"}
_TEXT_FUNCTIONS = {"take", "uniqueString", "readEnvironmentVariable"}


@dataclass(frozen=True)
class Parameter:
    type: str
    optional: bool
    secure: bool
    allowed: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A module and what is passed to it."""

    module: str
    arguments: dict[str, Node]
    loop_variables: frozenset[str]


@dataclass(frozen=True)
class File:
    path: Path
    root: Node
    parameters: dict[str, Parameter]
    variables: dict[str, Node]
    outputs: dict[str, tuple[str, Node]]
    calls: dict[str, Call]
    resources: dict[str, str]
    """Type and API version by symbol."""

    @property
    def faults(self) -> list[str]:
        """Where the parser could make nothing of the text."""
        return [f"{self.path.name}:{n.start_point.row + 1}" for n in walk(self.root) if n.is_error or n.is_missing]


def read(path: Path) -> File:
    text = path.read_text()
    if path.suffix == ".bicepparam":  # the parser's grammar has no values for parameters; `var` has the same form
        text = re.sub(r"^using .*$", "", re.sub(r"^param ", "var ", text, flags=re.MULTILINE), flags=re.MULTILINE)
    root = _PARSER.parse(text.encode()).root_node
    file = File(path, root, {}, {}, {}, {}, {})
    decorators: Node | None = None
    for node in root.named_children:
        _declare(file, node, decorators)
        if node.type != "comment":
            decorators = node if node.type == "decorators" else None
    return file


def _declare(file: File, node: Node, decorators: Node | None) -> None:
    parts = [child for child in node.named_children if child.type != "comment"]
    if node.type == "parameter_declaration":
        said = text_of(decorators) if decorators else ""
        optional = len(parts) > 2 or text_of(parts[1]).endswith("?")
        allowed = re.search(r"@allowed\(\[(.*?)\]\)", said)
        file.parameters[text_of(parts[0])] = Parameter(
            text_of(parts[1]),
            optional,
            "@secure()" in said,
            tuple(re.findall(r"'(.*?)'", allowed[1] if allowed else "")),
        )
    elif node.type == "variable_declaration":
        file.variables[text_of(parts[0])] = parts[1]
    elif node.type == "output_declaration":
        file.outputs[text_of(parts[0])] = (text_of(parts[1]), parts[2])
    elif node.type == "module_declaration":
        body, variables = _body(parts[2])
        file.calls[text_of(parts[0])] = Call(literal(parts[1]), properties(properties(body)["params"]), variables)
    elif node.type == "resource_declaration":
        file.resources[text_of(parts[0])] = literal(parts[1])


def _body(node: Node) -> tuple[Node, frozenset[str]]:
    """What is made, and the loop's variables if it is made in a loop."""
    if node.type != "for_statement":
        return node, frozenset()
    body = node.child_by_field_name("body")
    assert body is not None
    names = [n for n in walk(node) if n.type in ("loop_variable", "loop_enumerator")]
    first = node.named_children[0]
    return body, frozenset(text_of(n) for n in (names or [first]))


def properties(node: Node) -> dict[str, Node]:
    pairs = [child.named_children for child in node.named_children if child.type == "object_property"]
    return {text_of(pair[0]).strip("'"): pair[1] for pair in pairs}


def kind(file: File, node: Node, files: dict[str, File]) -> str | None:
    """The type of an expression in `file`; None where it cannot be told. Raises KeyError for a name that is nowhere."""
    if node.type in _LITERALS:
        return _LITERALS[node.type]
    if node.type == "identifier":
        name = text_of(node)
        return file.parameters[name].type if name in file.parameters else kind(file, file.variables[name], files)
    if node.type == "ternary_expression":
        return kind(file, node.named_children[1], files)
    if node.type == "call_expression":
        function = text_of(node.named_children[0])
        return "string" if function in _TEXT_FUNCTIONS else None
    if found := re.fullmatch(r"(\w+)\.outputs\.(\w+)", text_of(node)):
        return files[file.calls[found[1]].module].outputs[found[2]][0]
    return None


def walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from walk(child)


def text_of(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def literal(node: Node) -> str:
    return text_of(node).strip("'")
