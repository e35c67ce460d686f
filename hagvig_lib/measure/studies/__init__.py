"""The studies that `python -m hagvig_lib.measure.experiments` runs.

A study is a module with

- `RUNS`, a list of configurations (dicts that JSON can hold), one per run;
- `run(**configuration)`, which returns a run's results as such a dict;
- `SOURCES`, globs inside the package: code whose change makes it stale;
- optionally `TIMING = True`, if runs must not compete for the cores.

Its docstring says beforehand what would count as an effect. A folder holds
what studies share.
"""
