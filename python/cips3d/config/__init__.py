"""Configuration: strict YAML presets inside the package, read into frozen dataclasses.

`loader` turns YAML and `key=value` overrides into any dataclass; `training` holds the dataclass of a training run.
Presets live in `presets/<kind>/<name>.yaml` with kind `generator` or `training`.
"""

from cips3d.config.loader import ConfigError, build, load_preset, override, preset_names, read_yaml

__all__ = ["ConfigError", "build", "load_preset", "override", "preset_names", "read_yaml"]
