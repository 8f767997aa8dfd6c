"""What the model reads: one definition of features, to train and to serve."""

from mlops_lab.features.port import OnlineFeatures
from mlops_lab.features.view import Ask, Feature, FeatureRow, Kind, Value

__all__ = ["Ask", "Feature", "FeatureRow", "Kind", "OnlineFeatures", "Value"]
