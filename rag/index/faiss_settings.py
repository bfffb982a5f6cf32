"""Settings of the FAISS indexes: how each is made, filled, searched and put on a GPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ...core.components import Resources, Settings
from ...core.errors import ConfigError, require

if TYPE_CHECKING:
    from .faiss import FaissIndex

__all__ = ["FaissSettings", "FlatIndexSettings", "HnswIndexSettings", "IvfFlatIndexSettings", "IvfPqIndexSettings"]

FEW = 20_000
"""Filters that leave so many chunks or fewer are searched exactly where the index keeps the vectors."""
TRAIN_POINTS = 40
"""Vectors a list that k-means is shown; more changes little and costs time in proportion."""


class FaissSettings(Settings):
    """What the FAISS kinds share."""

    build_knobs: ClassVar[tuple[str, ...]] = ()
    """Settings that determine the built index, the others only steering the search; none where building is cheap."""
    kind: Any

    def build(self, resources: Resources) -> FaissIndex:
        """Makes an empty index.

        Raises:
            MissingExtra: FAISS is not installed.
        """
        require("faiss", "cpu", f"the index '{self.kind}'")
        from .faiss import FaissIndex

        return FaissIndex(self, resources.device)

    def filled(self, vectors: np.ndarray) -> Any:
        """A FAISS index of these vectors, shape (n, dimension)."""
        raise NotImplementedError

    def parameters(self, index: Any, k: int, selector: Any = None, share: float = 1.0) -> Any:
        """FAISS search parameters.

        Args:
            index: Made by `filled`.
            k: Results a question.
            selector: FAISS's IDSelector; None for all.
            share: Of the chunks that the selector lets pass; approximate kinds look further the smaller it is.
        """
        raise NotImplementedError

    def scans_few(self, allowed: int) -> bool:
        """Whether a filter that leaves `allowed` chunks is answered by comparing with all of them."""
        return False

    def on_gpu(self, index: Any, number: int) -> Any:
        """A copy on a GPU, or None where FAISS has no such kind there."""
        import faiss as engine

        faiss: Any = engine
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)

    def search_gpu(self, gpu: Any, index: Any, queries: np.ndarray, k: int) -> tuple[Any, Any]:
        """Searches the copy on the GPU."""
        return gpu.search(queries, k)


class FlatIndexSettings(FaissSettings):
    """Exact search with FAISS (IndexFlatIP)."""

    cost: ClassVar[str] = "exact; time grows with the number of chunks"

    kind: Literal["flat"] = "flat"

    def filled(self, vectors: np.ndarray) -> Any:
        """See `FaissSettings.filled`."""
        import faiss

        index: Any = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return index

    def parameters(self, index: Any, k: int, selector: Any = None, share: float = 1.0) -> Any:
        """See `FaissSettings.parameters`."""
        import faiss as engine

        faiss: Any = engine
        return None if selector is None else faiss.SearchParameters(sel=selector)


class HnswIndexSettings(FaissSettings):
    """Approximate search over a graph of neighbours (Malkov & Yashunin 2018), with FAISS (IndexHNSWFlat)."""

    cost: ClassVar[str] = "approximate; worth it past some 100,000 chunks; slow to build"
    build_knobs: ClassVar[tuple[str, ...]] = ("m", "ef_construction")

    kind: Literal["hnsw"] = "hnsw"
    m: int = Field(default=32, ge=4, le=128)
    """Neighbours of a vector. More finds more and needs more memory: about 8 * m bytes a vector."""
    ef_construction: int = Field(default=200, ge=8)
    """Candidates looked at when a vector is added. More finds more and makes building slower."""
    ef_search: int = Field(default=128, ge=1)
    """Candidates looked at in a search; at least k are. More finds more and is slower."""

    def filled(self, vectors: np.ndarray) -> Any:
        """See `FaissSettings.filled`. One thread builds the graph, so that it is the same each time."""
        import faiss

        index: Any = faiss.IndexHNSWFlat(vectors.shape[1], self.m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            index.add(vectors)
        finally:
            faiss.omp_set_num_threads(threads)
        return index

    def parameters(self, index: Any, k: int, selector: Any = None, share: float = 1.0) -> Any:
        """See `FaissSettings.parameters`."""
        import faiss as engine

        faiss: Any = engine
        looked = min(index.ntotal, math.ceil(max(self.ef_search, k) / share))
        return faiss.SearchParametersHNSW(efSearch=looked, sel=selector)

    def scans_few(self, allowed: int) -> bool:
        """A graph loses its way where a filter leaves little of it."""
        return allowed <= FEW

    def on_gpu(self, index: Any, number: int) -> Any:
        """FAISS has no such graph on a GPU."""
        return None


class IvfFlatIndexSettings(FaissSettings):
    """Approximate search in lists of like vectors (Sivic & Zisserman 2003), with FAISS (IndexIVFFlat)."""

    cost: ClassVar[str] = "approximate; quick to build, memory as `flat`; worth it past some 100,000 chunks"
    build_knobs: ClassVar[tuple[str, ...]] = ("nlist",)

    kind: Literal["ivf_flat"] = "ivf_flat"
    nlist: int | None = Field(default=None, ge=1)
    """Lists; each vector stands in the one whose centre is nearest. None takes sqrt(chunks), fewer for a small
    corpus. More makes a search with the same `nprobe` faster and find less; building time grows with it."""
    nprobe: int = Field(default=32, ge=1)
    """Lists that a search looks into. More finds more, and time grows with it; at `nlist` the search is exact."""

    def filled(self, vectors: np.ndarray) -> Any:
        """See `FaissSettings.filled`."""
        import faiss

        count, dimension = vectors.shape
        centres: Any = faiss.IndexFlatIP(dimension)
        index: Any = faiss.IndexIVFFlat(centres, dimension, self.lists(count), faiss.METRIC_INNER_PRODUCT)
        _quiet(index.cp)
        if count:
            index.train(vectors)
            index.add(vectors)
        return index

    def lists(self, count: int) -> int:
        """Number of lists for so many vectors.

        Raises:
            ConfigError: More lists than vectors are asked for.
        """
        if self.nlist is None:
            return max(1, min(round(math.sqrt(count)), count // 39))
        if count and self.nlist > count:
            raise ConfigError(f"index.nlist is {self.nlist:,}, but there are {count:,} chunks; lower it, or use null")
        return self.nlist

    def parameters(self, index: Any, k: int, selector: Any = None, share: float = 1.0) -> Any:
        """See `FaissSettings.parameters`."""
        import faiss as engine

        faiss: Any = engine
        probed = min(index.nlist, math.ceil(self.nprobe / share))
        return faiss.SearchParametersIVF(nprobe=probed, sel=selector)

    def search_gpu(self, gpu: Any, index: Any, queries: np.ndarray, k: int) -> tuple[Any, Any]:
        """Searches the copy on the GPU, which keeps `nprobe` itself."""
        gpu.nprobe = min(self.nprobe, gpu.nlist)
        return gpu.search(queries, k)


class IvfPqIndexSettings(IvfFlatIndexSettings):
    """As `ivf_flat`, with vectors kept as short codes (product quantisation, Jégou, Douze & Schmid 2011).

    Where codes alone lose too much, the best `rescore_factor * k` are compared again by better vectors.
    """

    cost: ClassVar[str] = "approximate; a sixteenth of the memory of `flat` by codes alone, half with fp16 rescoring"
    build_knobs: ClassVar[tuple[str, ...]] = ("nlist", "m", "bits", "rescore")

    kind: Literal["ivf_pq"] = "ivf_pq"  # type: ignore[assignment]
    m: int | None = Field(default=None, ge=1)
    """Parts that a vector is cut into, each kept as one number; must divide the dimension. More finds more and needs
    more memory (`m * bits / 8` bytes a vector). None takes a quarter of the dimension."""
    bits: int = Field(default=8, ge=4, le=8)
    """Bits a part. Fewer needs less memory and finds less; building needs 2 ** bits chunks or more."""
    rescore: Literal["none", "fp16", "fp32"] = "fp16"
    """Vectors that the best are compared again by: fp16 needs 2 bytes a dimension, fp32 4, none nothing."""
    rescore_factor: int = Field(default=8, ge=1)
    """Times k that are compared again. More finds more."""

    def filled(self, vectors: np.ndarray) -> Any:
        """See `FaissSettings.filled`."""
        import faiss as engine

        faiss: Any = engine
        count, dimension = vectors.shape
        if count < 2**self.bits:
            raise ConfigError(
                f"index: ivf_pq with {self.bits} bits needs {2**self.bits} chunks or more, there are {count}; "
                "use 'flat', which is faster too for so few"
            )
        metric = faiss.METRIC_INNER_PRODUCT
        centres = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFPQ(centres, dimension, self.lists(count), self.parts(dimension), self.bits, metric)
        _quiet(index.cp)
        index.pq.cp.min_points_per_centroid = 1
        index.train(vectors)
        index.add(vectors)
        if self.rescore == "none":
            return index
        kind = faiss.ScalarQuantizer.QT_fp16
        better = faiss.IndexScalarQuantizer(dimension, kind, metric) if self.rescore == "fp16" else None
        better = better or faiss.IndexFlatIP(dimension)
        better.train(vectors)
        better.add(vectors)
        return faiss.IndexRefine(index, better)

    def parts(self, dimension: int) -> int:
        """Number of parts for a dimension.

        Raises:
            ConfigError: `m` does not divide it.
        """
        divisors = [part for part in range(1, dimension + 1) if dimension % part == 0]
        if self.m is None:
            return max(part for part in divisors if part <= max(1, dimension // 4))
        if self.m not in divisors:
            near = ", ".join(str(part) for part in sorted(divisors, key=lambda part: abs(part - (self.m or 0)))[:3])
            raise ConfigError(f"index.m is {self.m}, which does not divide the {dimension} dimensions; {near} would")
        return self.m

    def parameters(self, index: Any, k: int, selector: Any = None, share: float = 1.0) -> Any:
        """See `FaissSettings.parameters`."""
        import faiss as engine

        faiss: Any = engine
        if self.rescore == "none":
            return super().parameters(index, k, selector, share)
        lists = super().parameters(_lists_of(index), k, selector, share)
        factor = max(1.0, min(self.rescore_factor, index.ntotal / k))
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=lists)

    def on_gpu(self, index: Any, number: int) -> Any:
        """The codes on a GPU; better vectors stay in the CPU's memory."""
        codes = index if self.rescore == "none" else _lists_of(index)
        return super().on_gpu(codes, number)

    def search_gpu(self, gpu: Any, index: Any, queries: np.ndarray, k: int) -> tuple[Any, Any]:
        """Searches the codes on the GPU and compares the best again by the better vectors."""
        if self.rescore == "none":
            return super().search_gpu(gpu, index, queries, k)
        from .faiss import GPU_MOST

        looked = min(GPU_MOST, self.rescore_factor * k, index.ntotal)
        _, places = super().search_gpu(gpu, index, queries, looked)
        scores = np.full(places.shape, -np.inf, dtype=np.float32)
        for row, found in enumerate(places):
            known = found >= 0
            scores[row, known] = index.refine_index.reconstruct_batch(found[known]) @ queries[row]
        return scores, places


def _lists_of(index: Any) -> Any:
    import faiss as engine

    faiss: Any = engine
    return faiss.downcast_index(index.base_index)


def _quiet(clustering: Any) -> None:
    """Bounds what k-means is shown, and keeps it from writing to standard error where a corpus is small."""
    clustering.max_points_per_centroid = TRAIN_POINTS
    clustering.min_points_per_centroid = 1
