"""``$NAME`` in the values of a stage: the output folder of an earlier stage.

Written ``$sft``, or ``${sft}`` where text follows that could belong to the name; ``$$`` is a dollar sign.
A reference needs a name behind the dollar sign, so that ``$5`` stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import yaml

from hf_align.config.yaml_nodes import Source
from hf_align.errors import UserError, did_you_mean

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w*)\}|(?P<plain>[A-Za-z_]\w*))")


def referenced(
    items: Iterable[tuple[str, yaml.Node, yaml.Node]],
    source: Source,
    inside: str,
    *,
    earlier: Sequence[str],
    later: Sequence[str],
) -> list[str]:
    """The names of the stages that the values of a stage name, each once.

    Raises ``UserError`` for a name that is not ``earlier``; ``later``: this stage and those after it.
    """
    found = []
    for key, key_node, node in items:
        for scalar in _texts(node):
            for match in _REFERENCE.finditer(scalar.value):
                if match["dollar"]:
                    continue
                name = match["braced"] if match["plain"] is None else match["plain"]
                place = source.place(scalar if scalar.start_mark else key_node, f"{inside}{key}")
                if name in later:
                    what = "is this stage itself" if name == later[0] else "comes after this stage"
                    raise UserError(
                        f"{place}: found {match[0]}, which {what}; a stage can use earlier ones only."
                    )
                if name not in earlier:
                    known = ", ".join(f"${one}" for one in earlier) or "none before this one"
                    raise UserError(
                        f"{place}: found {match[0]}, but there is no stage {name!r}; there are: {known}."
                        f"{did_you_mean(name, earlier)} ($$ stands for a dollar sign.)"
                    )
                found.append(name)
    return list(dict.fromkeys(found))


def with_folders(node: yaml.Node, folders: Mapping[str, str]) -> yaml.Node:
    """A copy of ``node`` in which every reference is the folder of its stage."""
    if isinstance(node, yaml.ScalarNode):
        if "$" not in node.value:
            return node

        def folder(match: re.Match[str]) -> str:
            return "$" if match["dollar"] else folders[match["braced"] or match["plain"]]

        text = _REFERENCE.sub(folder, node.value)
        return yaml.ScalarNode(node.tag, text, node.start_mark, node.end_mark, node.style)
    if isinstance(node, yaml.SequenceNode):
        value = [with_folders(item, folders) for item in node.value]
        return yaml.SequenceNode(node.tag, value, node.start_mark, node.end_mark)
    pairs = [(key, with_folders(item, folders)) for key, item in node.value]
    return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)


def _texts(node: yaml.Node, above: tuple[yaml.Node, ...] = ()) -> Iterator[yaml.ScalarNode]:
    """Every text below ``node`` that may hold a reference."""
    if isinstance(node, yaml.ScalarNode):
        if "$" in node.value:
            yield node
        return
    if node in above:  # an alias that contains itself
        raise UserError("stages: this YAML contains itself (an alias inside its own anchor).")
    parts = [item for _, item in node.value] if isinstance(node, yaml.MappingNode) else node.value
    for part in parts:
        yield from _texts(part, (*above, node))
