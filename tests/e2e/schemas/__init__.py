"""JSON schemas of many kinds: those written by hand and those that a program makes, each with what a model is asked."""

from schemas.generated import generated_cases
from schemas.written import refused_cases, written_cases

__all__ = ["generated_cases", "refused_cases", "written_cases"]
