"""The model as data: written by training, read by serving. numpy only."""

from mlops_lab.scoring.files import Package
from mlops_lab.scoring.forest import Forest, Split
from mlops_lab.scoring.manifest import Manifest, check, sha256, sign
from mlops_lab.scoring.scorer import Scorer
from mlops_lab.scoring.store import DirectoryStore, InTime, PackageStore

__all__ = ["DirectoryStore", "Forest", "InTime", "Manifest", "Package", "PackageStore", "Scorer", "Split", "check", "sha256", "sign"]
