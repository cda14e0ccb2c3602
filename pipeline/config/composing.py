"""YAML text to nodes: by ruamel.yaml, or by libyaml, which takes a tenth of the time.

libyaml reads large files, such as a `keys_file` with 10,000 keys. It follows YAML 1.1, so it gets
only texts that mean the same to both: ASCII without tabs and without the directive `%YAML`. Its
nodes are PyYAML's, which have the same attributes; the tag of a plain scalar is ruamel.yaml's. If
it finds a mistake, ruamel.yaml reads the text again and reports it.
"""

from __future__ import annotations

import functools
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver

#: Characters of a text that is large.
_LARGE = 100_000
#: Collections in each other. libyaml has no limit, and overflows the stack.
_MAX_DEPTH = 100


def compose(text: str, max_nodes: int, large: int = _LARGE) -> Any:
    """Give the node of a document, or None if the text is empty. Raises YAMLError."""
    if len(text) >= large and text.isascii() and "\t" not in text and "%YAML" not in text:
        node = _compose_large(text)
        if node is not None:
            return node
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    yaml.composer.max_nodes = max_nodes
    yaml.composer.warn_double_anchors = False  # a pipeline that was copied has its anchor twice
    return yaml.compose(text)


class _Composer(Composer):
    """Stops at a file with too many nodes, before all of them are built."""

    max_nodes = 0
    _nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """See Composer."""
        self._nodes += 1
        if self._nodes > self.max_nodes:
            raise too_many(self.max_nodes, self.parser.peek_event().start_mark)
        return super().compose_node(parent, index)


def too_many(nodes: int, mark: Any) -> ComposerError:
    """Give the error of a text with more values than `nodes`."""
    message = f"it has more than {nodes} values, counting those that aliases repeat"
    return ComposerError(problem=message, problem_mark=mark)


def _compose_large(text: str) -> Any:
    """Give the node, or None if libyaml is not there, or does not read the text."""
    try:
        from yaml import YAMLError
        from yaml.cyaml import CParser
    except ImportError:  # PyYAML was built without it
        return None

    resolver = VersionedResolver()

    @functools.lru_cache(maxsize=1000)
    def tag(value: str) -> Any:
        return resolver.resolve(ScalarNode, value, (True, False))

    class Parser(CParser):  # type: ignore[misc]
        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            return tag(value) if kind.id == "scalar" and implicit[0] else ""

        def descend_resolver(self, node: Any, index: Any) -> None: ...

        def ascend_resolver(self) -> None: ...

    try:
        return Parser(text).get_single_node() if _depth(Parser(text)) <= _MAX_DEPTH else None
    except YAMLError:
        return None


def _depth(parser: Any) -> int:
    depth = deepest = 0
    while parser.check_event():
        name = type(parser.get_event()).__name__
        if name in ("MappingStartEvent", "SequenceStartEvent"):
            depth += 1
            deepest = max(deepest, depth)
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            depth -= 1
    return deepest
