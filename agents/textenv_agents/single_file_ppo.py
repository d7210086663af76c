"""Proximal policy optimisation on texts in one file, to read top to bottom and to change.

    python -m textenv_agents.single_file_ppo --env-id textenv/ILoveYou-v0 --seed 1

After CleanRL's ppo.py (Huang et al. 2022, https://github.com/vwxyzjn/cleanrl). What is different:
the policy reads tokens (an embedding, a GRU), γ is 1, masks are honoured, and where the task is
small what the policy is worth is computed, not sampled. Nothing else of `textenv_agents` is needed.
Left out on purpose: language models, a price on the KL, checkpoints, GPUs: `policy_gradient.py`.

S = steps of a rollout, N = texts side by side, L = P + T columns of an observation, V = vocabulary;
V is also the id of an empty column.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.distributions import Categorical

import textenv
from textenv import exact
from textenv.errors import TextenvError, TooLargeError
from textenv.prefixes import Prefixes


@dataclass(frozen=True, kw_only=True)
class Args:
    """The settings; tyro makes the command line of them.

    Raises:
        ValueError: a number is out of range.
    """

    env_id: str = "textenv/ILoveYou-v0"  # what is written and what it is worth
    env_keywords: str = "{}"  # its keywords as JSON, such as '{"max_tokens": 8}'
    blocklist: tuple[str, ...] = ()  # patterns that no text may contain; they mask the policy
    seed: int = 1  # of the first weights, of the tokens that are drawn and of the prompts
    total_timesteps: int = 50_000  # tokens to write, at most
    num_envs: int = 16  # N
    num_steps: int = 32  # S; S · N tokens make an update
    learning_rate: float = 3e-3  # of Adam
    anneal_lr: bool = True  # let it fall to 0
    gamma: float = 1.0  # γ; 1: a text is worth what it is worth, however long it is
    gae_lambda: float = 0.95  # λ
    num_minibatches: int = 4  # parts of a rollout, each a step of Adam
    update_epochs: int = 4  # how often a rollout is gone through
    clip_coef: float = 0.2  # how far the ratio may lie from 1
    ent_coef: float = 0.01  # weight of the entropy bonus
    vf_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # longer gradients are shortened to this
    width: int = 64  # of the embedding and of the GRU
    print_every: int = 10  # updates from one printed line to the next; 0: print nothing

    def __post_init__(self) -> None:
        for name in ("num_envs", "num_steps", "num_minibatches", "update_epochs", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} ≥ 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_coef", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected 0 ≤ {name} ≤ 1, got {getattr(self, name)}")
        if self.batch % self.num_minibatches or self.batch == self.num_minibatches:
            raise ValueError(
                f"{self.num_envs} × {self.num_steps} tokens do not make {self.num_minibatches} "
                "equal parts of two or more: change num_envs, num_steps or num_minibatches"
            )
        if self.total_timesteps < self.batch:
            raise ValueError(
                f"an update takes num_envs · num_steps = {self.batch} tokens: expected "
                f"total_timesteps to be at least that, got {self.total_timesteps}"
            )

    @property
    def batch(self) -> int:
        """Tokens of an update."""
        return self.num_envs * self.num_steps


class Agent(nn.Module):
    """A policy and its value: an embedding and a GRU over tokens, and a linear head for each.

    It reads a column of nothing and then the observation from the left, and speaks from the last
    column that holds a token: from the first one, if none does.
    """

    def __init__(self, nothing: int, actions: int, width: int) -> None:
        super().__init__()
        self.nothing = nothing
        self.embedding = nn.Embedding(nothing + 1, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.actor = nn.Linear(width, actions)
        self.critic = nn.Linear(width, 1)
        nn.init.orthogonal_(self.actor.weight, 0.01)  # nearly uniform at the start
        nn.init.zeros_(self.actor.bias)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Categorical, Tensor]:
        """Return the next token's distribution, and V(s), [B].

        Args:
            tokens: int64 [B, L], observations.
            mask: bool [B, V], which tokens may be written; None: all.
        """
        columns = torch.arange(1, tokens.shape[1] + 1)
        last = torch.where(tokens == self.nothing, 0, columns).amax(dim=1)
        padded = nn.functional.pad(tokens, (1, 0), value=self.nothing)
        hidden = self.gru(self.embedding(padded))[0][torch.arange(len(tokens)), last]  # [B, width]
        logits = self.actor(hidden)
        if mask is not None:
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)  # probability 0
        return Categorical(logits=logits, validate_args=False), self.critic(hidden).squeeze(1)


class Result(NamedTuple):
    """What came out.

    agent: The trained policy.
    returns: What each text was paid, in the order in which they ended.
    history: Numbers of each update: timesteps, return, policy_loss, value_loss, entropy, kl, …
    before: J of the policy as it began, exact; None: too many texts.
    value, greedy_value: J of the trained policy and of its likeliest tokens, likewise.
    """

    agent: Agent
    returns: list[float]
    history: list[dict[str, float]]
    before: float | None
    value: float | None
    greedy_value: float | None


def make_environments(args: Args) -> Any:
    """Make N texts side by side.

    SAME_STEP, because then each row of a rollout is a token that was written: where a text ends,
    the next observation is the next text's first. With NEXT_STEP the row after an end takes no
    action and would have to be left out of every mean. What SAME_STEP leaves out, the observation
    after the last token, is needed only where a text is cut off, and is in `infos["final_obs"]`.
    """
    try:
        keywords = dict(json.loads(args.env_keywords))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'expected env_keywords such as {{"max_tokens": 8}}, got {args.env_keywords}'
        ) from error
    for name in ("num_envs", "vectorization_mode", "autoreset_mode", "scoring"):
        if name in keywords:
            raise ValueError(f"{name!r} is no keyword for env_keywords: this agent chooses it")
    if args.blocklist:
        keywords |= {"blocklist": list(args.blocklist), "mask": "observation"}
    envs: Any = gym.make_vec(
        args.env_id, num_envs=args.num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **keywords
    )
    setup = envs.unwrapped.setup
    if setup.observation != textenv.Tokens() or setup.action != textenv.AllTokens():
        raise ValueError(
            'this agent reads tokens and writes one: it needs observation="tokens" and '
            f'action="all_tokens", not {setup.observation!r} and {setup.action!r}'
        )
    return envs


def as_tensors(observation: Any, empty: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [N, L] and mask [N, V]; without a mask all tokens are allowed, as `empty` says.

    Copies: with copy=False the environment overwrites its observations at the next step.
    """
    if not isinstance(observation, dict):
        return torch.tensor(observation), empty
    mask = torch.tensor(observation["action_mask"]).bool()
    if not mask.any(dim=1).all():
        raise ValueError("the action mask of a text forbids every token: allow at least one")
    return torch.tensor(observation["observation"]), mask


def gae(
    rewards: Tensor, values: Tensor, following: Tensor, ended: Tensor, gamma: float, lam: float
) -> Tensor:
    """A_t = δ_t + γλ·A_{t+1},   δ_t = r_t + γ·V(s_{t+1}) − V(s_t); all of them [S, N].

    Args:
        rewards: r_t.
        values: V(s_t).
        following: V(s_{t+1}) of the same text: 0 where it is finished.
        ended: Whether the text ended here, so that A_{t+1} is another text's.
        gamma: γ.
        lam: λ.
    """
    errors = rewards + gamma * following - values
    advantages = torch.zeros_like(rewards)
    later = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        later = errors[t] + gamma * lam * torch.where(ended[t], 0.0, later)
        advantages[t] = later
    return advantages


def exact_value(agent: Agent, envs: Any, *, greedy: bool) -> float | None:
    """J of the policy, or of its likeliest tokens, over all texts; None: there are too many."""
    setup = envs.unwrapped.setup

    def policy(prefixes: Prefixes) -> np.ndarray:
        mask = None
        if setup.mask == "observation":  # as in training, else nobody masks
            mask = torch.from_numpy(setup.action_mask(len(prefixes), None, prefixes.state())).bool()
        with torch.no_grad():
            chances = agent(torch.from_numpy(prefixes.tokens), mask)[0].probs.double()
        if greedy:
            chances = nn.functional.one_hot(chances.argmax(dim=1), chances.shape[1]).double()
        return (chances / chances.sum(dim=1, keepdim=True)).numpy()

    try:
        return exact.value(envs.unwrapped.task, policy)
    except TooLargeError:
        return None


def train(args: Args) -> Result:
    """Train a policy, print how it goes, and say what it is worth at the end."""
    envs = make_environments(args)
    size = int(envs.single_action_space.n)
    generator = torch.Generator().manual_seed(args.seed)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(args.seed)
        agent = Agent(envs.unwrapped.task.rules.nothing, size, args.width)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    before = exact_value(agent, envs, greedy=False)
    updates = args.total_timesteps // args.batch
    shape = (args.num_steps, args.num_envs)
    returns: list[float] = []
    history: list[dict[str, float]] = []
    running = np.zeros(args.num_envs)
    every = torch.ones(args.num_envs, size, dtype=torch.bool)
    tokens, mask = as_tensors(envs.reset(seed=args.seed)[0], every)

    for update in range(1, updates + 1):
        if args.anneal_lr:
            optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - (update - 1) / updates)

        # 1. Write S tokens in each of N texts.
        log_probs, values, rewards, following = (torch.zeros(shape) for _ in range(4))
        actions, ended = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
        seen, masks = [], []
        for t in range(args.num_steps):
            with torch.no_grad():
                policy, values[t] = agent(tokens, mask)
            actions[t] = torch.multinomial(policy.probs, 1, generator=generator).squeeze(1)
            log_probs[t] = policy.log_prob(actions[t])
            seen.append(tokens)
            masks.append(mask)
            observation, paid, terminated, truncated, infos = envs.step(actions[t].numpy())
            tokens, mask = as_tensors(observation, every)
            over = terminated | truncated
            rewards[t], ended[t] = torch.from_numpy(paid), torch.from_numpy(over)
            for row in np.flatnonzero(truncated & ~terminated):  # cut off: worth V(final state)
                final = infos["final_obs"][row]
                final = final["observation"] if isinstance(final, dict) else final
                with torch.no_grad():
                    following[t, row] = agent(torch.from_numpy(final)[None])[1].item()
            running += paid
            returns += running[over].tolist()
            running[over] = 0.0

        # 2. Advantages. V(s_{t+1}) is the next row's value, but not where a text ended.
        with torch.no_grad():
            next_values = torch.cat([values[1:], agent(tokens, mask)[1][None]])
        following = torch.where(ended, following, next_values)
        advantages = gae(rewards, values, following, ended, args.gamma, args.gae_lambda)
        flat = (torch.stack(seen), torch.stack(masks), actions, log_probs, advantages)
        b_tokens, b_mask, b_actions, b_log_probs, b_advantages = (x.flatten(0, 1) for x in flat)
        b_targets = (advantages + values).flatten()  # [S · N], as all of them

        # 3. Several times over the same tokens, in random parts.
        measured: list[Tensor] = []
        for _ in range(args.update_epochs):
            order = torch.randperm(args.batch, generator=generator)
            for part in order.split(args.batch // args.num_minibatches):
                policy, value = agent(b_tokens[part], b_mask[part])
                log_ratio = policy.log_prob(b_actions[part]) - b_log_probs[part]
                ratio = log_ratio.exp()
                a = b_advantages[part]
                a = (a - a.mean()) / (a.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                policy_loss = -torch.minimum(ratio * a, clipped * a).mean()
                value_loss = 0.5 * (value - b_targets[part]).square().mean()
                entropy = policy.entropy().mean()
                loss = policy_loss - args.ent_coef * entropy + args.vf_coef * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(
                    agent.parameters(), args.max_grad_norm, error_if_nonfinite=True
                )
                optimizer.step()
                kl = (ratio - 1 - log_ratio).mean()  # its estimate that is never negative
                share = ((ratio - 1).abs() > args.clip_coef).float().mean()
                numbers = torch.stack([policy_loss, value_loss, entropy, kl, share])
                measured.append(numbers.detach())

        # 4. Say how it goes.
        names = ("policy_loss", "value_loss", "entropy", "kl", "clipped")
        means = dict(zip(names, torch.stack(measured).mean(dim=0).tolist(), strict=True))
        recent = float(np.mean(returns[-100:])) if returns else float("nan")
        history.append({"timesteps": update * args.batch, "return": recent, **means})
        if args.print_every and (update % args.print_every == 0 or update == updates):
            shown = "  ".join(f"{name} {number:.4f}" for name, number in means.items())
            print(f"{update * args.batch:>9,} tokens  return {recent:.3f}  {shown}", flush=True)

    value, greedy_value = (exact_value(agent, envs, greedy=greedy) for greedy in (False, True))
    if args.print_every and before is not None:
        print(f"exact J {before:.4f} → {value:.4f}, of the likeliest tokens {greedy_value:.4f}")
    envs.close()
    return Result(agent, returns, history, before, value, greedy_value)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what it refuses it says in one line."""
    try:
        train(tyro.cli(Args, description=__doc__, args=arguments))
    except (ValueError, TypeError, gym.error.Error, TextenvError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
