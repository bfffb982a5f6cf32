"""Questions and gold evidence, retrieval metrics, RAGAS, judges, statistics and diagnosis."""
