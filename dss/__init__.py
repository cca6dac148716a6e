"""Low-loss paths between trained neural networks: found, pulled tight, proved and shown."""

from dss.barrier import Barrier, barrier
from dss.certificate import Certificate, certify
from dss.checkpoints import load_point, save_state
from dss.connect import Connection, conclude, connect
from dss.descent import Descent
from dss.errors import CheckpointError, EnclosureError, InputError, RunError, TaskError
from dss.finder import Finder, Limits, Problem, Status, Step
from dss.finders import (
    FINDERS,
    BezierCurve,
    ConstrainedString,
    ElasticBand,
    GeodesicString,
    GreedyString,
    PolygonalChain,
    StraightLine,
)
from dss.losses import Perplexity, error_rate
from dss.memory import keep_freed_memory
from dss.network import NetworkObjective
from dss.objective import Objective, Tally
from dss.path import Path
from dss.potentials import BentValley, DoubleWell, MuellerBrown, Quadratic, Ring
from dss.prune import prune
from dss.pull import Solver
from dss.runs import Run, RunRecorder, load_run
from dss.shorten import Shortened, Shortening, shorten
from dss.space import ParameterSpace
from dss.tasks import Task, load_task
from dss.theory import disconnection_threshold

__all__ = [
    "Barrier",
    "BentValley",
    "BezierCurve",
    "Certificate",
    "CheckpointError",
    "Connection",
    "ConstrainedString",
    "Descent",
    "DoubleWell",
    "ElasticBand",
    "EnclosureError",
    "FINDERS",
    "Finder",
    "GeodesicString",
    "GreedyString",
    "InputError",
    "Limits",
    "MuellerBrown",
    "NetworkObjective",
    "Objective",
    "ParameterSpace",
    "Path",
    "Perplexity",
    "PolygonalChain",
    "Problem",
    "Quadratic",
    "Ring",
    "Run",
    "RunError",
    "RunRecorder",
    "Shortened",
    "Shortening",
    "Solver",
    "Status",
    "Step",
    "StraightLine",
    "Tally",
    "Task",
    "TaskError",
    "barrier",
    "certify",
    "conclude",
    "connect",
    "disconnection_threshold",
    "error_rate",
    "keep_freed_memory",
    "load_point",
    "load_run",
    "load_task",
    "prune",
    "save_state",
    "shorten",
]
