"""HTML and SVG as values. A text becomes markup only by passing through `element`, which escapes it: nobody has to remember to."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is markup already. Made by this module, and by who vouches for what they put in."""

    __slots__ = ()


Child = str | int | float | None
"""What an element may hold: markup as it is, everything else escaped, None not at all."""


def element(tag: str, *children: Child, **attributes: Child) -> Markup:
    """One element with its children.

    Args:
        tag: Its name.
        children: In order.
        attributes: By name; a trailing `_` is dropped (`class_`), other `_` become `-`, None leaves the attribute out.
    """
    given = "".join(f' {_name(name)}="{html.escape(_text(value))}"' for name, value in attributes.items() if value is not None)
    return Markup(f"<{tag}{given}>{join(children)}</{tag}>")


def join(children: Iterable[Child]) -> Markup:
    """Several children as one."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(_text(child)) for child in children if child is not None))


def _name(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _text(value: Child) -> str:
    """A number without noise: two decimals of a pixel are enough for any eye."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
