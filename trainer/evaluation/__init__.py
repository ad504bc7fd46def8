"""Evaluation of checkpoints, or of outputs made elsewhere, on the paper's five benchmarks, by rules alone.

`evaluate_checkpoint` asks a model and scores, `evaluate_outputs` scores lines of a file; both return the JSON document.
Samples come from dataset versions or from files named on the command line. Imports only `shared`.
"""

from trainer.evaluation.asking import Settings
from trainer.evaluation.run import evaluate_checkpoint, evaluate_outputs

__all__ = ["Settings", "evaluate_checkpoint", "evaluate_outputs"]
