"""Low-loss paths between trained neural networks: found, pulled tight, proved and shown."""

from dss.errors import CheckpointError, EnclosureError, InputError, RunError, TaskError
from dss.losses import error_rate
from dss.network import NetworkObjective
from dss.objective import Objective, Tally
from dss.path import Path
from dss.potentials import DoubleWell, MuellerBrown, Quadratic, Ring
from dss.space import ParameterSpace
