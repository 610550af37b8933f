"""One hash for what a network computes, whatever file or device it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def fingerprint(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a network's configuration and tensors.

    Names, shapes and values enter in the order of the names. Values are hashed as
    little-endian float64, so that a float32 network keeps its fingerprint when it is
    loaded for computing in float64.

    Parameters
    ----------
    config : dict
        As of ``ForecasterConfig.to_dict``.
    tensors : dict of floating-point tensors
    """
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().double().numpy()
        digest.update(f"{name}{list(values.shape)}".encode())
        digest.update(values.astype("<f8").tobytes())
    return digest.hexdigest()
