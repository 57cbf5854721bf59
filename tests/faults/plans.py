"""A plan put in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brolga.testing.faults import (
    FaultPlan,
)

if TYPE_CHECKING:
    from brolga.testing.faults import Fault
    from brolga.testing.plugin import BrolgaRegistry


def arm(registry: BrolgaRegistry, *faults: Fault) -> FaultPlan:
    """Put faults in force."""
    plan = FaultPlan(*faults)
    registry.use(faults=plan)
    return plan
