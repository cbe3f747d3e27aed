"""The line with a machine's findings in an engine's output."""

from __future__ import annotations

import secrets

from parallel_hpo.doctor import Finding, Level
from parallel_hpo.doctor.findings import MOST_BYTES, bad, from_output, good, to_line, warning


def test_findings_are_found_within_other_output() -> None:
    findings = (good("driver", "2 devices"), warning("mask", "ünlike", "see"), bad("reach", "no", "go"))
    output = f"a library's word\n{to_line(findings)}\nanother one at its exit"
    assert from_output(output) == findings


def test_truncated_output_has_no_findings() -> None:
    line = to_line([good("driver", secrets.token_hex(100))])
    assert from_output(line[:-50]) is None
    assert from_output("No module named parallel_hpo") is None


def test_bad_findings_are_kept_if_not_all_fit() -> None:
    first, last = bad("first", "no", "go"), warning("last", "hm", "see")
    many = [good(f"device {number}", secrets.token_hex(50)) for number in range(40)]
    line = to_line([first, *many, last])
    told = from_output(line)
    assert len(line) <= MOST_BYTES
    assert told is not None
    assert (told[0], told[-2]) == (first, last)
    kept = len(told) - 3
    assert 0 < kept < len(many)
    assert told[-1] == Finding(
        Level.GOOD, "the rest", f"{len(many) - kept} more findings did not fit in the machine's answer"
    )


def test_findings_on_eight_devices_fit() -> None:
    uuid = "GPU-b7c1d2e3-{}"
    devices = [
        good(
            f"device {n}",
            f"NVIDIA H100 80GB HBM3 {uuid.format(secrets.token_hex(14))}, 4 of 81559 MB used, visible as {n}",
        )
        for n in range(8)
    ]
    rest = [good(f"subject {n}", f"{secrets.token_hex(8)} is as it should be") for n in range(12)]
    assert from_output(to_line([*devices, *rest])) == (*devices, *rest)
