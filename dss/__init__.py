"""Low-loss paths between trained neural networks: found, pulled tight, proved and shown."""

from importlib import import_module as _import_module
from pathlib import Path as _FilePath
from types import ModuleType as _Module

from dss._barrier import Barrier, barrier
from dss._connect import conclude, connect
from dss._connection import Connection
from dss._version import __version__
from dss.adapters import load_point, save_state
from dss.averaging import Check, check
from dss.base.allocator import keep_freed_memory
from dss.base.errors import CheckpointError, EnclosureError, InputError, RunError, SoundnessError, TaskError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.progress import ProgressMeter, TextProgressMeter, TqdmProgressMeter
from dss.base.space import ParameterSpace
from dss.certificates.bracket import Bracket, Verdict
from dss.certificates.certificate import Certificate, certify
from dss.certificates.closing import bracket
from dss.certificates.proof import prove
from dss.certificates.sampling import Peaks, sample_segments
from dss.finders import (
    FINDERS,
    BendString,
    BezierCurve,
    ConstrainedString,
    ConvexPath,
    ElasticBand,
    FastestPath,
    GeodesicString,
    GreedyString,
    PolygonalChain,
    StraightLine,
)
from dss.finders.descent import Descent, descend
from dss.finders.finder import Finder, Step
from dss.geodesic.pruning import prune
from dss.geodesic.shortening import Shortened, Shortening, shorten
from dss.geodesic.sqp import SequentialQP
from dss.objectives.analytic import BentValley, DoubleWell, MuellerBrown, Quadratic, Ring
from dss.objectives.judges import Perplexity, error_rate
from dss.objectives.network import NetworkObjective
from dss.objectives.network.own_loss import own_loss
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Tally
from dss.page import figures
from dss.page.report import write_report
from dss.problem import Problem
from dss.runs import Run, RunRecorder, load_run
from dss.symmetry import Alignment, align
from dss.tasks import Task, load_task, train
from dss.tasks.nets import DigitsNet, PaperMNISTNet, PolynomialNet
from dss.theory import (
    Obstruction,
    Wall,
    bottleneck_obstruction,
    disconnection_threshold,
    hidden_orientation,
    polygon_obstruction,
)
from dss.topology import MergeTree, merge_tree

__all__ = [
    "Alignment",
    "Barrier",
    "BendString",
    "BentValley",
    "BezierCurve",
    "Bracket",
    "Certificate",
    "Check",
    "CheckpointError",
    "Connection",
    "ConstrainedString",
    "ConvexPath",
    "Descent",
    "DigitsNet",
    "DoubleWell",
    "ElasticBand",
    "EnclosureError",
    "FINDERS",
    "FastestPath",
    "Finder",
    "GeodesicString",
    "GreedyString",
    "InputError",
    "Limits",
    "MergeTree",
    "MuellerBrown",
    "NetworkObjective",
    "Objective",
    "Obstruction",
    "PaperMNISTNet",
    "ParameterSpace",
    "Path",
    "Peaks",
    "Perplexity",
    "PolygonalChain",
    "PolynomialNet",
    "Problem",
    "ProgressMeter",
    "Quadratic",
    "Ring",
    "Run",
    "RunError",
    "RunRecorder",
    "SequentialQP",
    "Shortened",
    "Shortening",
    "SoundnessError",
    "Status",
    "Step",
    "StraightLine",
    "Tally",
    "Task",
    "TaskError",
    "TextProgressMeter",
    "TqdmProgressMeter",
    "Verdict",
    "Wall",
    "__version__",
    "align",
    "barrier",
    "bottleneck_obstruction",
    "bracket",
    "certify",
    "check",
    "conclude",
    "connect",
    "descend",
    "disconnection_threshold",
    "error_rate",
    "figures",
    "hidden_orientation",
    "keep_freed_memory",
    "load_point",
    "load_run",
    "load_task",
    "merge_tree",
    "own_loss",
    "polygon_obstruction",
    "prove",
    "prune",
    "sample_segments",
    "save_state",
    "shorten",
    "train",
    "write_report",
]

# The packages beneath are how the house is built, not what it offers: importing them left their names here, and `dir(dss)`
# is to show `__all__`. They stay within reach, by `import dss.theory` and by `dss.theory.x`.
_WINGS = frozenset(file.stem for file in _FilePath(__file__).parent.iterdir() if not file.name.startswith("__"))
for _wing in _WINGS:
    globals().pop(_wing, None)


def __getattr__(name: str) -> _Module:
    if name in _WINGS:
        return _import_module(f"dss.{name}")
    raise AttributeError(f"module 'dss' has no attribute {name!r}")
