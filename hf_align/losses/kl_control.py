"""The coefficient of the KL penalty: held, or steered towards a target."""

from __future__ import annotations

from hf_align.losses.checks import check_sign

MAX_ERROR = 0.2
"""The proportional error is clipped to plus or minus this share of the target (Ziegler et al. 2019)."""


class FixedKLController:
    """A coefficient that stays as it is. Raises ValueError for a negative one."""

    def __init__(self, coefficient: float) -> None:
        check_sign("coefficient", coefficient, zero=True)
        self.coefficient = coefficient

    def update(self, kl: float, steps: int) -> None:
        """Nothing changes, whatever the divergence."""


class AdaptiveKLController:
    """Raises the coefficient while the divergence is above ``target``, and lowers it below.

    ``coefficient`` > 0: where it starts. ``target`` > 0: nats, summed over a response. ``horizon`` > 0:
    episodes; how slowly it moves. Raises ValueError for other values.

    Source: Ziegler et al. 2019, arXiv 1909.08593, section 2.2.
    """

    def __init__(self, coefficient: float, *, target: float, horizon: float) -> None:
        for name, value in (("coefficient", coefficient), ("target", target), ("horizon", horizon)):
            check_sign(name, value)
        self.coefficient = coefficient
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, steps: int) -> None:
        """``kl``: mean over a batch of responses of their divergence in nats; ``steps``: how many they are.

        A divergence that is no number leaves the coefficient as it is.
        """
        # e_t = clip((KL - target) / target, -0.2, 0.2);  beta_t+1 = beta_t (1 + K e_t), K = steps / horizon
        error = kl / self.target - 1
        if error != error:
            return
        self.coefficient *= 1 + min(max(error, -MAX_ERROR), MAX_ERROR) * steps / self.horizon
