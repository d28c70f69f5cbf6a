"""A training's state as bytes, and back: weights, optimizer, key of the data order, ADMM's variables."""

import json
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from codesign.design import Network, Recipe
from codesign.errors import DataError
from codesign.tasks import Task
from codesign.training.admm import dotted
from codesign.training.step import Member
from codesign.training.trainer import Checkpoint, first_state, phases


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """A training after at least one epoch, in the safetensors format.

    Structures and word lengths are not in it: network, recipe and seed give them again.
    """
    assert checkpoint.member is not None
    facts = {"losses": json.dumps(checkpoint.losses), "seconds": json.dumps(checkpoint.seconds)}
    arrays = _leaves(_changing(checkpoint.member))
    return safetensors.numpy.save(arrays, facts)


def from_bytes(content: bytes, network: Network, recipe: Recipe, task: Task, seed: int) -> Checkpoint:
    """The training that `to_bytes` stored.

    Raises:
        DataError: if the content is no such thing.
    """
    try:
        arrays = safetensors.numpy.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        losses = tuple(json.loads(header["losses"]))
        phase = next(p for p in phases(recipe) if p.first < len(losses) <= p.first + p.epochs)
        start = Checkpoint(network, recipe, seed, losses[: phase.first])
        template = first_state(start, task, phase)
        member = _filled(template, arrays)
    except (safetensors.SafetensorError, KeyError, ValueError, StopIteration) as error:
        raise DataError(f"a checkpoint cannot be read ({error!r})") from None
    return Checkpoint(network, recipe, seed, losses, json.loads(header["seconds"]), member)


def _changing(member: Member) -> dict[str, Any]:
    """What an epoch changes; the rest follows from network and recipe."""
    tree: dict[str, Any] = {
        "params": member.params,
        "optimizer": member.optimizer,
        "key": jax.random.key_data(member.key),
        "step": member.step,
        "pressure": member.pressure,
    }
    if member.admm is not None:
        tree["admm"] = {"z": member.admm.z, "u": member.admm.u, "rho": member.admm.rho}
    return tree


def _leaves(tree: Any) -> dict[str, NDArray[Any]]:
    return {dotted(path): np.asarray(leaf, order="C") for path, leaf in jax.tree.leaves_with_path(tree)}


def _filled(template: Member, arrays: dict[str, NDArray[Any]]) -> Member:
    shapes = {name: leaf.shape for name, leaf in _leaves(_changing(template)).items()}
    if shapes != {name: array.shape for name, array in arrays.items()}:
        raise ValueError("of another network or another version")
    tree = jax.tree_util.tree_map_with_path(lambda path, _: jax.device_put(arrays[dotted(path)]), _changing(template))
    member = template._replace(
        params=tree["params"],
        optimizer=tree["optimizer"],
        key=jax.random.wrap_key_data(tree["key"]),
        step=tree["step"],
        pressure=tree["pressure"],
    )
    if template.admm is None:
        return member
    return member._replace(admm=template.admm._replace(**tree["admm"]))
