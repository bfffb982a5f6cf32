"""Sweeps: many configurations of one pipeline, each scored on dev, what they share computed once.

settings.py    the section `sweep:` of a config
expressions.py constraints: "context_tokens <= 2000"
space.py       axes, conditions, which points are valid and which are the same
search.py      grid, random, coordinate, TPE, NSGA-II, racing and halving: which points to try next
vectors.py     scores of many rankings over one chunking, as array arithmetic
evaluate.py    scores points, grouped by what they share
latency.py     time of single queries
racing.py      stops a configuration when it is worse with confidence
executors.py   where it runs: this process, local processes, Ray
trials.py      the file of trials, a row at a time; resuming
plan.py        what is about to be computed
results.py     ranking, marginals, importance, Pareto front, what cannot be told apart
run.py         puts them together
"""
