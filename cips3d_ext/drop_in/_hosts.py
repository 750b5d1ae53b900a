"""All adapters, in the order in which they are tried."""

from . import pigan

ADAPTERS = (*pigan.ADAPTERS,)
