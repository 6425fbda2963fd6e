"""Every attack, in the order in which the drill makes them."""

from loadtests.hostile.attack import Attack
from loadtests.hostile.attacks import (
    bodies,
    callers,
    connections,
    doors,
    grammars,
    strangers,
    transfers,
    uploads,
    values,
)

ATTACKS: tuple[Attack, ...] = (
    *strangers.ATTACKS,
    *connections.ATTACKS,
    *doors.ATTACKS,
    *bodies.ATTACKS,
    *values.ATTACKS,
    *transfers.ATTACKS,
    *callers.ATTACKS,
    *uploads.ATTACKS,
    *grammars.ATTACKS,
)
