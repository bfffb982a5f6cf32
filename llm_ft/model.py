"""Loads a base model, puts an adapter on it, and merges the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.chat.adapters import check_base, merged
from ..core.distributed import local_rank, world_size
from ..core.errors import ConfigError, DataError, require
from ..core.files import whole_folder
from ..core.quiet import quiet_libraries
from .settings import LoraSettings

__all__ = [
    "add_adapter",
    "check_adapter",
    "check_device",
    "compute_dtype",
    "linear_modules",
    "load_base",
    "merge_adapter",
]


def check_device(settings: LoraSettings, device: str) -> None:
    """Refuses a device that the settings cannot be trained on, before anything is loaded.

    Raises:
        ConfigError: The device is `cuda:1` or higher, several processes are to share one that they cannot, or 4-bit
            weights are asked for without a GPU.
        MissingExtra: 4-bit weights are asked for without bitsandbytes.
    """
    if device.startswith("cuda:") and device != "cuda:0":
        number = device.partition(":")[2]
        raise ConfigError(
            f"runtime.device: LoRA training takes the first GPU that it sees, not {device}: set the "
            f"environment variable CUDA_VISIBLE_DEVICES={number} and the device to cuda"
        )
    if world_size() > 1 and device.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(f"runtime.device: several processes train on cuda or cpu, not on {device}")
    if settings.quantize == "none":
        return
    require("bitsandbytes", "gpu", "training on 4-bit weights (quantize: 4bit)")
    if not device.startswith("cuda"):
        raise ConfigError(f"quantize: 4bit needs a CUDA device, and this one is {device}: set quantize to none")


def compute_dtype(settings: LoraSettings, device: str) -> str:
    """The number type that `dtype: auto` means on a device.

    Args:
        settings: The settings.
        device: `cpu`, `cuda`, `cuda:1`, `mps`.

    Returns:
        `float32` or `bfloat16`.
    """
    if settings.dtype != "auto":
        return settings.dtype
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "cpu":
        probes = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
        return "bfloat16" if any(probe is not None and probe() for probe in probes) else "float32"
    return "float32"


def load_base(folder: Path, settings: LoraSettings, device: str) -> Any:
    """Loads a causal language model for training.

    Args:
        folder: The model's folder; nothing is written to it.
        settings: The settings; `dtype` decides the type of the weights on a GPU.
        device: Where it will be trained.

    Raises:
        DataError: The folder holds no causal language model, or its weights do not fill it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # on a CPU bfloat16 weights would save little and cost accuracy: autocast computes in bfloat16 from float32 weights
    half = device.startswith("cuda") and compute_dtype(settings, device) == "bfloat16"
    try:
        with quiet_libraries():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch.bfloat16 if half else torch.float32,
                local_files_only=True,
                output_loading_info=True,
                **(_four_bit(half) if settings.quantize == "4bit" else {}),
            )
            model, info = loaded
    except Exception as error:  # transformers raises errors of many kinds for a broken model
        raise DataError(f"base model: {folder} cannot be loaded as a causal language model: {error}") from None
    absent = sorted(info.get("missing_keys", ()))
    if absent:
        raise DataError(
            f"base model: the weights in {folder} lack {len(absent)} tensors of the model, for instance {absent[0]}"
        )
    return model


def _four_bit(half: bool) -> dict[str, Any]:
    """Arguments of QLoRA (Dettmers et al. 2023): NormalFloat with doubly quantised constants, on this process's GPU."""
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if half else torch.float32,
    )
    return {"quantization_config": config, "device_map": {"": local_rank()}}


def linear_modules(model: Any) -> list[str]:
    """Names of the linear layers that can take an adapter (last part of their names; not the output layer)."""
    import torch
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not output
        }
    )


def add_adapter(model: Any, settings: LoraSettings) -> Any:
    """Puts a new LoRA adapter on a model; only the adapter can then be trained.

    Args:
        model: A model of `load_base`.
        settings: Rank, scaling and target modules.

    Returns:
        The `peft.PeftModel`.

    Raises:
        ConfigError: `target_modules` names layers that the model does not have, or cannot have an adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers.pytorch_utils import Conv1D

    candidates = linear_modules(model)
    names = settings.target_modules
    wrong = [] if isinstance(names, str) else [name for name in names if name.rpartition(".")[2] not in candidates]
    if not candidates:
        raise ConfigError("train.target_modules: the base model has no linear layer that can take an adapter")
    if wrong or not names:
        found = ", ".join(f"'{name}'" for name in wrong)
        fault = f"{found} matches no linear layer of the base model" if wrong else "the list is empty"
        raise ConfigError(f"train.target_modules: {fault}: use all-linear, or some of {', '.join(candidates)}")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        target_modules=names if isinstance(names, str) else list(names),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # as in GPT-2
        task_type="CAUSAL_LM",
    )
    with quiet_libraries():
        torch.manual_seed(settings.seed)
        if settings.quantize == "4bit":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=settings.gradient_checkpointing)
        try:
            return get_peft_model(model, config)
        except ValueError as error:  # peft knows layers that cannot have one, for instance Mamba's
            shown = ", ".join(candidates)
            raise ConfigError(f"train.target_modules: peft refuses: {error} The linear layers are: {shown}") from None


def check_adapter(base_folder: Path, adapter: Path) -> None:
    """Refuses an adapter that is known to be of another base: shapes may fit, and the sum would still be nonsense.

    An adapter without the note that training leaves beside it is taken as it is.

    Raises:
        DataError: The adapter was trained on another base, or its files are not there.
    """
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise DataError(f"adapter: {adapter} holds no adapter_config.json: name a folder that training wrote")
    check_base(Path(base_folder), Path(adapter))


def merge_adapter(base_folder: Path, adapter: Path, out_dir: Path) -> Path:
    """Adds an adapter to the weights of its base and saves the sum, as a model that needs no peft.

    The merge is done in the number type of the base's files, float32 where they are 8- or 4-bit.

    Args:
        base_folder: The model that the adapter was trained on; not changed.
        adapter: The adapter's folder.
        out_dir: Where the merged model goes; must not exist.

    Returns:
        `out_dir`.

    Raises:
        DataError: The base or the adapter cannot be loaded, they do not fit, or `out_dir` exists.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if Path(out_dir).exists():
        raise DataError(f"merge: {out_dir} exists already: remove it or name another folder")
    check_adapter(base_folder, adapter)
    try:
        with quiet_libraries():
            base = AutoModelForCausalLM.from_pretrained(base_folder, dtype="auto", local_files_only=True)
            if base.dtype not in (torch.float32, torch.float16, torch.bfloat16):
                base = base.float()
            tokenizer = AutoTokenizer.from_pretrained(base_folder, local_files_only=True)
            whole = merged(base, Path(adapter))
    except DataError:
        raise
    except Exception as error:  # transformers and peft raise errors of many kinds for files that do not fit
        raise DataError(f"merge: {adapter} cannot be merged into {base_folder}: {error}") from None
    with whole_folder(Path(out_dir)) as temporary, quiet_libraries():
        whole.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return Path(out_dir)
