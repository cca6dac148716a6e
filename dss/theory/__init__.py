"""Paths, bounds and obstructions that theory gives."""

from dss.theory.bottleneck import BottleneckObstruction, bottleneck_obstruction
from dss.theory.class_order import (
    OrderObstruction,
    PolygonObstruction,
    order_obstruction,
    polygon_obstruction,
    strict_error_rate,
)
from dss.theory.decoder import DecoderObstruction, decoder_obstruction
from dss.theory.disconnection import disconnection_threshold, hidden_orientation
from dss.theory.head import Head, features
from dss.theory.multilabel import MultiLabelObstruction, multilabel_obstruction
from dss.theory.nonnegative import NonnegativeObstruction, nonnegative_obstruction
from dss.theory.obstruction import Obstruction, Wall, highest_wall

__all__ = [
    "BottleneckObstruction",
    "DecoderObstruction",
    "Head",
    "MultiLabelObstruction",
    "NonnegativeObstruction",
    "Obstruction",
    "OrderObstruction",
    "PolygonObstruction",
    "Wall",
    "bottleneck_obstruction",
    "decoder_obstruction",
    "disconnection_threshold",
    "features",
    "hidden_orientation",
    "highest_wall",
    "multilabel_obstruction",
    "nonnegative_obstruction",
    "order_obstruction",
    "polygon_obstruction",
    "strict_error_rate",
]
