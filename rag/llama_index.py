"""A pipeline as a LlamaIndex retriever and query engine, so that it fits where one is expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import StageError, require
from ..core.types import Answer, Hit

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["make_query_engine", "make_retriever"]

_WHERE = "the LlamaIndex query engine"


def make_retriever(pipeline: Pipeline) -> Any:
    """A `BaseRetriever` whose nodes are the pipeline's hits.

    Args:
        pipeline: What answers.

    Raises:
        MissingExtra: llama-index-core is not installed.
    """
    require("llama_index", "rag", _WHERE)
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import QueryBundle

    class PipelineRetriever(BaseRetriever):
        """The pipeline's retrieval."""

        def _retrieve(self, query_bundle: QueryBundle) -> list[Any]:
            return _nodes(pipeline.retrieve([query_bundle.query_str])[0])

    return PipelineRetriever()


def make_query_engine(pipeline: Pipeline) -> Any:
    """A `BaseQueryEngine` that answers by the pipeline.

    Its response has the answer's text, the passages of the prompt as source nodes, and tokens and seconds as
    metadata. An answer whose status is not `ok` raises StageError, for a response has no place to say so.

    Args:
        pipeline: What answers.

    Raises:
        MissingExtra: llama-index-core is not installed.
    """
    require("llama_index", "rag", _WHERE)
    import asyncio

    from llama_index.core.base.base_query_engine import BaseQueryEngine
    from llama_index.core.base.response.schema import Response
    from llama_index.core.schema import QueryBundle

    class PipelineQueryEngine(BaseQueryEngine):
        """The pipeline's answers."""

        def _query(self, query_bundle: QueryBundle) -> Response:
            return _response(pipeline.ask(query_bundle.query_str))

        async def _aquery(self, query_bundle: QueryBundle) -> Response:
            return await asyncio.to_thread(self._query, query_bundle)

        def retrieve(self, query_bundle: QueryBundle) -> list[Any]:
            return _nodes(pipeline.retrieve([query_bundle.query_str])[0])

        def _get_prompt_modules(self) -> dict[str, Any]:
            return {}

    return PipelineQueryEngine(callback_manager=None)


def _response(answer: Answer) -> Any:
    from llama_index.core.base.response.schema import Response

    if answer.status != "ok":
        raise StageError(f"the question was not answered ({answer.status}): {answer.detail}")
    metadata = {
        "seconds": answer.seconds,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    nodes = _nodes([Hit(chunk, float("nan")) for chunk in answer.contexts])
    return Response(response=answer.text, source_nodes=nodes, metadata=metadata)


def _nodes(hits: Sequence[Hit]) -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes: list[Any] = []
    for hit in hits:
        chunk = hit.chunk
        metadata = {
            "doc_id": chunk.doc_id,
            "ref": chunk.ref,
            "title": chunk.title,
            "heading": " > ".join(chunk.heading),
        }
        node = TextNode(
            id_=chunk.id, text=chunk.text, metadata=metadata, start_char_idx=chunk.start, end_char_idx=chunk.end
        )
        # the score of a passage in an answer is not known: a reader may have put passages in another order
        nodes.append(NodeWithScore(node=node, score=None if hit.score != hit.score else hit.score))
    return nodes
