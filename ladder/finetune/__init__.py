"""What `ragladder embed` and `ragladder llm` do on the config's pipeline as it stands, without a climb or a gate.

common.py           the workbench of a command, and the folder it delivers
embedding.py        pairs, estimate, training, curve and search of the embedding model
embedding_curve.py  gain per doubling of the pairs
embedding_search.py settings tried on dev
llm.py              prompts, data, estimate, training, curve and export of the LLM
compare_llm.py      base against finetuned
"""
