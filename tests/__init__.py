"""A package, so that processes which tests start find their functions; another one may be installed as `tests`."""
