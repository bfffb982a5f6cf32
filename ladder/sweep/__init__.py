"""Sweeps: many configurations of one pipeline, each scored on the same questions, what they share computed once.

settings.py    the section `sweep:` of a config
expressions.py constraints: "context_tokens <= 2000"
space.py       axes, conditions, which points are valid and which are the same
search.py      grid, random, coordinate, TPE, NSGA-II, racing and halving: which points to try next
vectors.py     scores of many rankings over one chunking, as array arithmetic
evaluate.py    scores points, grouped by what they share
costs.py       calls of LLMs: how many to expect, what was paid
latency.py     time of single queries
racing.py      stops a configuration when it is worse with confidence
executors.py   where it runs: this process, local processes, Ray
folder.py      the sweep's folder, found again by settings and data
trials.py      the file of trials, a row at a time; resuming
budget.py      what was used, and the limits
plan.py        what is about to be computed
results.py     ranking, marginals, importance, Pareto front, what cannot be told apart
baseline.py    every configuration against the pipeline as configured, corrected for their number
record.py      trials and result as they are written down
words.py       the same for a terminal
run.py         puts them together
"""
