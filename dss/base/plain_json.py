"""Values as strict JSON: the standard knows neither NaN nor infinity."""

import json
import math
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """A value as it will be read back: NaN is null, infinity the text "inf" or "-inf", a tuple a list."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return _number(value) if isinstance(value, float) else value


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """Strict JSON text."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def _number(value: float) -> float | str | None:
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)
