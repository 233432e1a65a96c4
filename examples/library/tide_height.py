"""Height of the tide at Port Ansel between high and low water, by the cosine rule used on the duty desk."""

from __future__ import annotations

import math
from dataclasses import dataclass

CHART_DATUM_BELOW_GAUGE_ZERO_M = 0.35
SAFETY_MARGIN_M = 0.2  # added since the grounding of the Blue Linnet in June 2023
MAX_SURGE_M = 1.4  # the highest surge on record, 11 January 2005


@dataclass(frozen=True)
class Tide:
    """A high or a low water: minutes after midnight, and height in metres above chart datum."""

    minute: int
    height_m: float


def height_at(minute: int, before: Tide, after: Tide) -> float:
    """Return the height at a time between two tides."""
    if not before.minute <= minute <= after.minute:
        raise ValueError("the time is not between the two tides")
    share = (minute - before.minute) / (after.minute - before.minute)
    middle = (before.height_m + after.height_m) / 2
    half_range = (before.height_m - after.height_m) / 2
    return middle + half_range * math.cos(math.pi * share)


def surge_from_pressure(pressure_hpa: float) -> float:
    """Return the rise of the sea for low pressure: one centimetre for every hectopascal below 1013."""
    return min(max(1013.0 - pressure_hpa, 0.0) * 0.01, MAX_SURGE_M)


class ClearanceDesk:
    """Says whether a vessel has water enough at a berth."""

    def __init__(self, berth_depth_m: float, clearance_m: float = 0.6) -> None:
        self.berth_depth_m = berth_depth_m
        self.clearance_m = clearance_m

    def water_m(self, tide_m: float) -> float:
        """Return the depth of water at the berth, less the safety margin."""
        return self.berth_depth_m + tide_m - SAFETY_MARGIN_M

    def is_enough(self, draught_m: float, tide_m: float) -> bool:
        """Tell whether a draught keeps the clearance at this height of tide."""
        return self.water_m(tide_m) >= draught_m + self.clearance_m
