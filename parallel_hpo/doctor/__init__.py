"""`parallel-hpo doctor`: checks for what would make a sweep fail here or on a cluster's machines.

`client` and `machine` return findings on one subject each, `examine` collects them.
"""

from __future__ import annotations

from parallel_hpo.doctor.examine import DoctorSubject as DoctorSubject
from parallel_hpo.doctor.examine import examine as examine
from parallel_hpo.doctor.findings import Finding as Finding
from parallel_hpo.doctor.findings import Level as Level
