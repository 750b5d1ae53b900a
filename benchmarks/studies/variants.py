"""The studies' training runs: what papers compare, as changes to a training preset; a model has a file with a Subject.

To add a model: `variants_<model>.py` with a SUBJECT, its name in SUBJECTS, and a section with a mark for each of its
studies in README.md. Names of variants and studies are unique over all models.
"""

from __future__ import annotations

from subjects import Subject
from variants_cips3d import SUBJECT as CIPS3D
from variants_eg3d import SUBJECT as EG3D
from variants_volumegan import SUBJECT as VOLUMEGAN

SUBJECTS: dict[str, Subject] = {"cips3d": CIPS3D, "eg3d": EG3D, "volumegan": VOLUMEGAN}
