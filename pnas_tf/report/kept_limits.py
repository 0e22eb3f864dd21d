"""The further limits of a search (--limit), and what the delivered network needs of each."""

import dataclasses

from pnas_tf.cost import limits
from pnas_tf.errors import InputError
from pnas_tf.files import number
from pnas_tf.report.facts import Facts


@dataclasses.dataclass(frozen=True)
class KeptLimit:
    """A limit of a search.

    Attributes:
        name: Name of the cost.
        bound: Largest value that a delivered network may have.
        value: Value of the network; None if it is not recorded.
    """

    name: str
    bound: float
    value: float | None

    @property
    def is_kept(self) -> bool:
        """Whether the network keeps the limit. Without a value it does: the search delivers no other."""
        return self.value is None or self.value <= self.bound

    def __str__(self) -> str:
        value = "" if self.value is None else f"{self.value:,.0f} of "
        return f"{self.name} {value}at most {self.bound:,.0f}"


def of_run(facts: Facts) -> list[KeptLimit]:
    """The limits of a run in the order of its flags; texts that are not limits are left out."""
    found = []
    for text in facts.flags.get("limit", "").split(","):
        try:
            name, bound = limits.parse(text)
        except InputError:
            continue
        found.append(KeptLimit(name, bound, _value(facts, name)))
    return found


def _value(facts: Facts, name: str) -> float | None:
    """The value by which the search judged the delivered network, which is the first of the finalists."""
    costs = facts.finalists[0].get("costs") if facts.finalists else None
    value = number(costs.get(name)) if isinstance(costs, dict) else None
    return facts.size(name) if value is None and name in ("params", "macs") else value
