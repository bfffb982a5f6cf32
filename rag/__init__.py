"""Retrieval and generation: parse, chunk, embedding context, index, retrieve, rerank, prompt, generate."""
