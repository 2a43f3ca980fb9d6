"""Reads a job descriptor: everything that is to be said of it, and the plan of the job where it is accepted.

The job manager calls `read_descriptor`; the rooms are

- `reading`: one descriptor, from text to `Reading`: exactly first, then by the walk; here or in a thread;
- `job`: the fields of the job, its reporters, and all its tests together;
- `test`: one test: its target manager, what its fetchers are to be asked, its steps;
- `steps`: the steps of a test;
- `fetching`: asks the fetchers;
- `desk`: what all of these share: the walk, the catalog, names and parameters of parts.

The rules are ConTest's (field for field); beyond them it refuses what ConTest hangs on or merges: no targets, all
tests disabled, two tests of one name, and what is far more than a job has (`contest_runner.descriptor_fields`).
Nothing is run.
"""

from __future__ import annotations

from contest_runner.descriptor.job import TAG
from contest_runner.descriptor.reading import Reading, read_descriptor

__all__ = ["TAG", "Reading", "read_descriptor"]
