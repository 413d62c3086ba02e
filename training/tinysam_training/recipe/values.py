"""Valid values of settings; other values and unknown keys are refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

#: Of the settings' dataclasses.
STRICT = ConfigDict(extra="forbid")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Signed = Annotated[float, Field(ge=-1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"two numbers, the smaller one first, not {bounds}")
    return bounds


#: The smallest and the largest number.
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]
SignedRange = Annotated[tuple[Signed, Signed], AfterValidator(_ascending)]
