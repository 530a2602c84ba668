"""What comes of a change of stock that is no reservation."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Changed:
    """Rows of stock were changed: now, or before by the same request.

    `versions` are the rows' after the change, by SKU and warehouse.
    """

    versions: Mapping[tuple[str, str], int]
