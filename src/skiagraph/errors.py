"""Errors a user can act on: each says what was wrong, where, and what to do."""

from __future__ import annotations


class SkiagraphError(Exception):
    """Base of every error that is the input's fault, not the program's; the command line exits with code 2."""


class ImageError(SkiagraphError):
    """A file that cannot be read as a radiograph, or pixels outside their declared range."""


class ReportError(SkiagraphError):
    """A report or prompt that is empty or cannot be turned into conditioning."""


class ModelError(SkiagraphError):
    """A model folder or weight file that is missing, truncated or of another layout."""


class RecipeError(SkiagraphError):
    """A training recipe that does not validate, or a checkpoint that belongs to another recipe."""


class DataError(SkiagraphError):
    """A data folder that is missing, incomplete or inconsistent."""


class EvaluationError(SkiagraphError):
    """Metric inputs of the wrong shape, count or range."""


class MaskError(SkiagraphError):
    """Maps or masks of the wrong shape, type or range, or without anything to segment."""


class NothingKept(SkiagraphError):
    """Pictures that were made, and of which none passed what they must pass."""


def one_line(error: Exception) -> str:
    """What an error says, on one line of bounded length."""
    return " ".join(str(error).split())[:300]
