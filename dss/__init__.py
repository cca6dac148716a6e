"""Low-loss paths between trained neural networks: found, pulled tight, proved and shown."""

from dss.certificate import Certificate, certify
from dss.connect import Connection, conclude, connect
from dss.descent import Descent
from dss.errors import CheckpointError, EnclosureError, InputError, RunError, TaskError
from dss.finder import Finder, Limits, Problem, Status, Step
from dss.finders import FINDERS, GreedyString, StraightLine
from dss.losses import error_rate
from dss.network import NetworkObjective
from dss.objective import Objective, Tally
from dss.path import Path
from dss.potentials import BentValley, DoubleWell, MuellerBrown, Quadratic, Ring
from dss.space import ParameterSpace

__all__ = [
    "FINDERS",
    "BentValley",
    "Certificate",
    "CheckpointError",
    "Connection",
    "Descent",
    "DoubleWell",
    "EnclosureError",
    "Finder",
    "GreedyString",
    "InputError",
    "Limits",
    "MuellerBrown",
    "NetworkObjective",
    "Objective",
    "ParameterSpace",
    "Path",
    "Problem",
    "Quadratic",
    "Ring",
    "RunError",
    "Status",
    "Step",
    "StraightLine",
    "Tally",
    "TaskError",
    "certify",
    "conclude",
    "connect",
    "error_rate",
]
