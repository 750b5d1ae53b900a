"""What tests, benchmarks and users need to check an op: sample calls, and comparisons with reasoned tolerances."""

from .cases import CASES, Case, cases_of
from .compare import TOLERANCES, Tolerance, assert_close, relative_error

__all__ = ["CASES", "TOLERANCES", "Case", "Tolerance", "assert_close", "cases_of", "relative_error"]
