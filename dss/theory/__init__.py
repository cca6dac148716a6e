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
from dss.theory.dropout import dropout_stability
from dss.theory.head import Head, features
from dss.theory.hidden_layer import HiddenLayerPath, hidden_layer_path
from dss.theory.linear import LinearPath, linear_barrier, linear_path
from dss.theory.linear_ridge import ridge_path
from dss.theory.multilabel import MultiLabelObstruction, multilabel_obstruction
from dss.theory.nonnegative import NonnegativeObstruction, nonnegative_obstruction
from dss.theory.obstruction import Obstruction, Wall, highest_wall

__all__ = [
    "BottleneckObstruction",
    "DecoderObstruction",
    "Head",
    "HiddenLayerPath",
    "LinearPath",
    "MultiLabelObstruction",
    "NonnegativeObstruction",
    "Obstruction",
    "OrderObstruction",
    "PolygonObstruction",
    "Wall",
    "bottleneck_obstruction",
    "decoder_obstruction",
    "disconnection_threshold",
    "dropout_stability",
    "features",
    "hidden_layer_path",
    "hidden_orientation",
    "highest_wall",
    "linear_barrier",
    "linear_path",
    "multilabel_obstruction",
    "nonnegative_obstruction",
    "order_obstruction",
    "polygon_obstruction",
    "ridge_path",
    "strict_error_rate",
]
