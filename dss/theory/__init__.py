"""Paths, bounds and obstructions that theory gives."""

from dss.theory.bottleneck import BottleneckObstruction, bottleneck_obstruction
from dss.theory.class_order import (
    OrderObstruction,
    PolygonObstruction,
    order_obstruction,
    polygon_obstruction,
    strict_error_rate,
)
from dss.theory.covariance import Linearisation, gaussian_covariance, linearisation
from dss.theory.decoder import DecoderObstruction, decoder_obstruction
from dss.theory.disconnection import disconnection_threshold, hidden_orientation
from dss.theory.dropout import dropout_stability
from dss.theory.gradient_flow import GradientFlow, gradient_flow
from dss.theory.gram import gram_matrix, least_eigenvalue, limit_gram_matrix
from dss.theory.head import Head, features
from dss.theory.hidden_layer import HiddenLayerPath, hidden_layer_path
from dss.theory.linear import LinearPath, linear_barrier, linear_path
from dss.theory.linear_ridge import ridge_path
from dss.theory.margin import degree, margin_bound, normalized_margin
from dss.theory.multilabel import MultiLabelObstruction, multilabel_obstruction
from dss.theory.nonnegative import NonnegativeObstruction, nonnegative_obstruction
from dss.theory.obstruction import Obstruction, Wall, highest_wall
from dss.theory.quadratic import QuadraticOptimum, quadratic_loss, quadratic_optimum

__all__ = [
    "BottleneckObstruction",
    "DecoderObstruction",
    "GradientFlow",
    "Head",
    "HiddenLayerPath",
    "LinearPath",
    "Linearisation",
    "MultiLabelObstruction",
    "NonnegativeObstruction",
    "Obstruction",
    "OrderObstruction",
    "PolygonObstruction",
    "QuadraticOptimum",
    "Wall",
    "bottleneck_obstruction",
    "decoder_obstruction",
    "degree",
    "disconnection_threshold",
    "dropout_stability",
    "features",
    "gaussian_covariance",
    "gradient_flow",
    "gram_matrix",
    "hidden_layer_path",
    "hidden_orientation",
    "highest_wall",
    "least_eigenvalue",
    "limit_gram_matrix",
    "linear_barrier",
    "linear_path",
    "linearisation",
    "margin_bound",
    "multilabel_obstruction",
    "nonnegative_obstruction",
    "normalized_margin",
    "order_obstruction",
    "polygon_obstruction",
    "quadratic_loss",
    "quadratic_optimum",
    "ridge_path",
    "strict_error_rate",
]
