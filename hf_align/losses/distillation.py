"""Divergences between the distributions of a student and a teacher over the vocabulary."""

from __future__ import annotations

import math

import torch

from hf_align.losses.checks import check_shapes


def generalized_jsd(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, beta: float, temperature: float = 1.0
) -> torch.Tensor:
    """Divergence at each position, in nats, of shape (...) from logits (..., V).

    ``beta`` 0: KL(teacher || student), the forward one; 1: KL(student || teacher), the reverse one; between,
    beta KL(T || M) + (1 - beta) KL(S || M) with M = beta T + (1 - beta) S, which is symmetric at 0.5. The
    ends are no limits of it: towards both it falls to 0, and divided by beta or 1 - beta it goes to the
    forward or the reverse divergence. ``temperature`` divides both logits. Raises ValueError for beta outside
    [0, 1], a temperature that is not positive, or shapes that differ.

    Source: Agarwal et al. 2024, arXiv 2306.13649, equation 1, and section 2 for its ends.
    """
    check_shapes(student_logits=student_logits, teacher_logits=teacher_logits)
    if not 0 <= beta <= 1:
        raise ValueError(f"beta: found {beta:g}, expected 0 to 1")
    if not temperature > 0:
        raise ValueError(f"temperature: found {temperature:g}, expected more than 0")
    student = torch.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = torch.log_softmax(teacher_logits.float() / temperature, dim=-1)
    if beta == 0:
        return _kl(teacher, student)
    if beta == 1:
        return _kl(student, teacher)
    # Where neither puts anything the mixture is asked for by nobody, and has no gradient.
    never = (teacher == -math.inf) & (student == -math.inf)
    mixture = torch.logaddexp(
        teacher.masked_fill(never, 0.0) + math.log(beta), student.masked_fill(never, 0.0) + math.log1p(-beta)
    )
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(logps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """KL(p || q) over the last dimension; a token that p never takes adds nothing."""
    never = logps == -math.inf
    # Filled before it is computed: a gradient through infinity is none.
    ratio = logps.masked_fill(never, 0.0) - others.masked_fill(never, 0.0)
    return (logps.exp() * ratio).sum(dim=-1)
