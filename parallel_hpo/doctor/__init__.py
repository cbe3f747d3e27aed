"""`parallel-hpo doctor`: what in this place would make a sweep fail, before one is started.

Each module looks at one thing and returns findings; `examine` puts them together for this machine, `there`
for one of many, which `machines` asks.
"""

from __future__ import annotations

from parallel_hpo.doctor.examine import DoctorSubject as DoctorSubject
from parallel_hpo.doctor.examine import examine as examine
from parallel_hpo.doctor.findings import Finding as Finding
from parallel_hpo.doctor.findings import Level as Level
