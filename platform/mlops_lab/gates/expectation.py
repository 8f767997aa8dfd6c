"""What a table must be like, as data: use cases declare expectations, an adapter checks them."""

from dataclasses import dataclass, field
from typing import Any, Literal

Rule = Literal["columns_exactly", "type", "not_null", "unique", "between", "in_set", "mean_between", "row_count", "pair_greater"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One rule about one table.

    Attributes:
        name: What a person reads, as a sentence: "temperature is between -20 and 110 °F".
        table: The table of the batch it speaks of.
        rule: columns_exactly(columns) · type(column, is_type) · not_null(column) · unique(columns) ·
            between(column, low, high) · in_set(column, values) · mean_between(column, low, high) ·
            row_count(low, high) · pair_greater(a, b: a >= b).
        arguments: The rule's arguments by name.
        mostly: Share of rows, 0 to 1, that must keep the rule.
        blocking: A broken blocking rule refuses the batch, another one is a warning in the verdict.
    """

    name: str
    table: str
    rule: Rule
    arguments: dict[str, Any] = field(default_factory=dict)
    mostly: float = 1.0
    blocking: bool = True
