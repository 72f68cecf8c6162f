"""From a checkpoint to a verified artifact: fold, lower, write ONNX, cast, verify, describe."""

from vidgen.export.pipeline import ExportReport, export
from vidgen.export.settings import ExportSettings
from vidgen.export.verify import Verification, verify

__all__ = ["ExportReport", "ExportSettings", "Verification", "export", "verify"]
