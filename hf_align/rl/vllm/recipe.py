"""Options of sampling on a vLLM server instead of with the built-in engine. Keys are TRL's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_align.config.adapter import LORA, AdapterConfig
from hf_align.config.addresses import check_address
from hf_align.config.fields import option
from hf_align.config.group import Group, KeyProblem

_SERVER = ("use_vllm", (True,))
_CORRECTED = ("vllm_importance_sampling_correction", (True,))


@dataclass(frozen=True)
class VllmConfig(Group):
    """Where the server is, and what is made of the difference between its log-probabilities and our own."""

    title: ClassVar[str] = "vLLM server"

    use_vllm: bool = option(
        False, help="sample on a server that `vllm serve` has started; it gets the weights of every rollout"
    )
    vllm_server_base_url: str = option(
        "http://localhost:8000", help="address of the server", non_empty=True, needs=_SERVER, changes="place"
    )
    vllm_server_timeout: float = option(
        240.0,
        gt=0,
        help="seconds to wait for the server to be up when the run begins, and later for any answer of it",
        needs=_SERVER,
        changes="speed",
    )
    vllm_importance_sampling_correction: bool = option(
        False,
        help="weight the policy loss by the probability of a token here over that on the server; without it "
        "tokens count as if they had been sampled here",
        needs=_SERVER,
    )
    vllm_importance_sampling_mode: Literal[
        "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
    ] = option(
        "token_truncate",
        help="the ratio of each token or of the whole answer; one above the limit counts as the limit "
        "(truncate) or not at all (mask)",
        needs=_CORRECTED,
    )
    vllm_importance_sampling_clip_max: float = option(3.0, gt=0, help="limit of the ratio", needs=_CORRECTED)

    def check(self) -> None:
        check_address("vllm_server_base_url", self.vllm_server_base_url, example="http://localhost:8000")


def check_vllm(
    vllm: VllmConfig, adapter: AdapterConfig, *, temperature: float, top_p: float, top_k: int
) -> None:
    """Raise :class:`KeyProblem` where a server cannot follow the policy, or its log-probabilities could not
    be compared with our own."""
    if not vllm.use_vllm:
        return
    if adapter.adapter not in ("none", *LORA):
        raise KeyProblem(
            ("use_vllm", "adapter"),
            f"vLLM can load LoRA adapters and whole models, not '{adapter.adapter}'; expected adapter: lora, "
            "qlora or none.",
        )
    for key in ("use_dora", "modules_to_save"):
        if adapter.adapter in LORA and getattr(adapter, key):
            raise KeyProblem(("use_vllm", key), f"vLLM loads no adapter with {key}; leave it out.")
    narrowed = [key for key, on in (("top_p", top_p < 1), ("top_k", top_k > 0)) if on]
    if narrowed and vllm.vllm_importance_sampling_correction:
        raise KeyProblem(
            ("vllm_importance_sampling_correction", *narrowed),
            "the weight of a token needs the probability that it was drawn with, among all tokens; take "
            "top_p 1 and top_k 0, or do without the correction.",
        )
    if narrowed and temperature != 1:
        raise KeyProblem(
            ("use_vllm", "temperature", *narrowed),
            "vLLM gives log-probabilities either at temperature 1 or after top_p and top_k, and neither can "
            "be compared with the policy's; take temperature 1, or top_p 1 and top_k 0.",
        )
