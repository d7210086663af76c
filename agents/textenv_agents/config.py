"""The settings of the policy-gradient agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from textenv.errors import UnknownNameError
from textenv.models.sampling import Sampling

POSITIVE = (
    "episodes",
    "rows",
    "group",
    "learning_rate",
    "value_learning_rate",
    "value_clip",
    "max_gradient_norm",
    "epochs",
    "minibatches",
    "kl_target",
    "lora_rank",
    "lora_alpha",
    "memory_budget",
    "max_bad_steps",
)


@dataclass(frozen=True, kw_only=True)
class PolicyGradientConfig:
    """Settings of `PolicyGradient`; the defaults suit a small language model on a CPU.

    Raises:
        ValueError: a number is out of range, or two settings contradict each other.
    """

    # What is collected.
    episodes: int | None = None
    """Texts per update. None: the rows of an environment that is handed in, else 64."""
    rows: int | None = None
    """Rows of the environment, at most `episodes`: a row that is done goes on with the next text.
    None: as many as texts, or those of an environment that is handed in."""
    group: int = 8
    """Texts of one prompt; `episodes` is a multiple of it."""
    sampling: Sampling = field(default_factory=Sampling)
    """How tokens are drawn. Temperature and cuts are part of the policy that is trained, and of the
    reference."""

    # The estimator of ∇J.
    returns: Literal["total", "to_go"] = "to_go"
    """What multiplies ∇log π(a_t|s_t): the whole text's reward, or that from t on."""
    baseline: Literal["none", "running_mean", "value", "leave_one_out", "group_mean"] = (
        "leave_one_out"
    )
    """What is subtracted from it: nothing, the mean of past updates, a learned V(s_t), the mean of
    the other texts of the same prompt (RLOO), or that of all of them, itself included (GRPO; the
    gradient of the reward is (K − 1)/K as long as it should be, that of KL and entropy is not:
    see `advantages.group_mean`)."""
    gae_lambda: float = 1.0
    """λ of generalised advantages, with baseline="value". Below 1 less variance, and biased where V
    is wrong."""
    normalise: bool = False
    """Divide whole texts' advantages by the group's standard deviation. Biased: see
    `advantages.group_normalised`."""
    reduction: Literal["episodes", "tokens", "episode_means"] = "episodes"
    """Sum over a text's tokens and average over texts; or average over all tokens (biased); or
    over each text's tokens and then over texts, as GRPO was published (biased)."""

    # What is added to the objective.
    entropy_coefficient: float = 0.0
    """Weight of the policy's entropy at each token."""
    kl_coefficient: float = 0.0
    """β, the price of a nat of KL(π‖ρ), ρ being the policy as it was handed in."""
    kl_target: float | None = None
    """Let β follow, so that a text's KL comes near this many nats; an update moves it by at most
    2 %. None: β stays."""

    # The step.
    loss: Literal["policy_gradient", "ppo"] = "policy_gradient"
    """Williams's, for one step a batch; or PPO's clipped ratio, for several."""
    ratio: Literal["token", "sequence"] = "token"
    """PPO's ratio: each token's, or the geometric mean over the text (GSPO)."""
    clip: float = 0.2
    """PPO: how far from 1 the ratio is followed."""
    epochs: int = 1
    """PPO: how often each text is used."""
    minibatches: int = 1
    """PPO: steps an epoch, each on another part of the texts; texts are never cut."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """How the gradient becomes a step."""
    learning_rate: float = 5e-4
    """Its size, α."""
    schedule: Literal["constant", "linear"] = "constant"
    """Keep α, or let it fall to 0 over the tokens of `learn`."""
    value_learning_rate: float = 1e-2
    """Adam's, for the learned baseline."""
    value_clip: float | None = None
    """How far V may move in one update before its loss is clipped; None: not clipped."""
    max_gradient_norm: float | None = 1.0
    """Longer gradients are shortened to this norm; None: never."""
    running_mean_decay: float = 0.9
    """How much of the running mean stays when an update is added."""
    max_bad_steps: int = 5
    """A step whose loss or gradient is not finite is left out; so many in a row end the run."""

    # Adapter, memory, hardware.
    lora_rank: int | None = None
    """Train low-rank matrices beside the weights, which stay as they are (LoRA); the reference is
    then the same model without them. None: train the weights."""
    lora_alpha: float | None = None
    """The adapter is scaled by alpha / rank; None: alpha = 2·rank."""
    memory_budget: float | None = None
    """10⁹ bytes that an update may take; texts are read in parts that fit, which changes no
    gradient. None: all at once."""
    gradient_checkpointing: bool = False
    """Keep each layer's input only and compute the rest again: less memory, a third more time."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """What the model computes in (autocast); float32 means the weights' own type, "auto" bfloat16
    on a GPU that has it."""
    compile: bool = False
    """torch.compile the model for the update. Pays on GPUs; on CPUs it did not."""

    seed: int | None = 0
    """Fixes prompts and tokens; None: different each time."""

    @property
    def texts(self) -> int:
        """Texts per update: `episodes`, or 64."""
        return 64 if self.episodes is None else self.episodes

    def __post_init__(self) -> None:
        if isinstance(self.sampling, Mapping):  # as JSON brings it back
            object.__setattr__(self, "sampling", _sampling(self.sampling))
        for name, hint in get_type_hints(type(self)).items():
            allowed = get_args(hint) if get_origin(hint) is Literal else None
            if allowed and getattr(self, name) not in allowed:
                raise UnknownNameError(f"setting of {name}", str(getattr(self, name)), allowed)
        self._check_numbers()
        self._check_groups()
        self._check_step()

    def _check_numbers(self) -> None:
        for name in POSITIVE:
            number = getattr(self, name)
            if number is not None and not number > 0:
                raise ValueError(f"expected {name} > 0, got {number}")
        for name in ("entropy_coefficient", "kl_coefficient"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} ≥ 0, got {getattr(self, name)}")
        for name in ("gae_lambda", "running_mean_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected 0 ≤ {name} ≤ 1, got {getattr(self, name)}")
        if not 0 < self.clip < 1:
            raise ValueError(f"expected 0 < clip < 1, got {self.clip}")

    def _check_groups(self) -> None:
        if self.texts % self.group:
            raise ValueError(
                "expected episodes (the environment's rows) to be a multiple of group, got "
                f"{self.texts} and {self.group}"
            )
        if self.rows is not None and self.rows > self.texts:
            raise ValueError(
                f"expected rows ≤ episodes, got {self.rows} and {self.texts}: a row writes at "
                "least one text"
            )
        if self.normalise and self.returns != "total":
            raise ValueError(
                'normalise=True divides by the deviation of whole texts: it needs returns="total"'
            )
        compares = self.baseline in ("leave_one_out", "group_mean")
        if self.group < 2 and (compares or self.normalise):
            what = "normalise=True" if self.normalise else f"baseline={self.baseline!r}"
            raise ValueError(f"{what} needs group ≥ 2 texts of a prompt, got {self.group}")

    def _check_step(self) -> None:
        generalised = self.baseline == "value" and self.returns == "to_go"
        if self.gae_lambda < 1 and not generalised:
            raise ValueError(
                f'gae_lambda={self.gae_lambda} needs baseline="value" and returns="to_go"'
            )
        if self.loss == "policy_gradient" and self.epochs * self.minibatches > 1:
            raise ValueError(
                f"epochs={self.epochs} and minibatches={self.minibatches} take several steps on "
                'texts that only the first step\'s policy wrote: that needs loss="ppo"'
            )
        if self.minibatches > self.texts:
            raise ValueError(
                f"{self.texts} texts cannot be parted into {self.minibatches} minibatches"
            )
        if self.kl_target is not None and not self.kl_coefficient > 0:
            raise ValueError("kl_target needs a kl_coefficient > 0 to start from")
        if self.lora_alpha is not None and self.lora_rank is None:
            raise ValueError("lora_alpha scales an adapter: give its lora_rank too")


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    forced = {int(step): int(token) for step, token in settings.get("forced", {}).items()}
    forbidden = tuple(settings.get("forbidden", ()))
    return Sampling(**{**settings, "forced": forced, "forbidden": forbidden})
