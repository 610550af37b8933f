"""The sum over edges of one layer, by several libraries, for ``gpu.py``.

Features of the senders times harmonics and weights of the edges, summed at the
receivers: gather, product and scatter of the second layer, whose features have both
parities. Weights are given for every edge, as libraries want them; a run of ours
interpolates them instead. All get the same numbers, in the layout that each likes; what
they give is turned into ours to be compared, which is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from e3nn import o3
from e3nn_rival import depthwise, generated_as
from torch import Tensor

from trajcast_ase.neighbors import Edges
from trajcast_ase.network import Forecaster
from trajcast_ase.network.backend import Backend
from trajcast_ase.network.harmonics import spherical_harmonics
from trajcast_ase.network.interaction import Interaction
from trajcast_ase.network.irreps import harmonics_irreps, slices
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import WeightRows
from trajcast_ase.network.wigner import wigner_3j

Sums = Tensor | tuple[Tensor, ...]


class NotInstalledError(Exception):
    """A library is not here."""

    def __str__(self) -> str:
        """Return what a table says."""
        return "not installed"


@dataclass(frozen=True, slots=True)
class Entry:
    """A call to be timed, and what turns its result into our layout."""

    call: Callable[[], Sums]
    read: Callable[[Sums], Tensor]


@dataclass(frozen=True, slots=True)
class Convolution:
    """The sum over edges of one layer.

    Attributes
    ----------
    product : DepthwiseProduct
    x : (n_atoms, dim, n_channels)
    harmonics : (n_edges, (lmax + 1)²)
    weights : (n_edges, n_paths * n_channels)
    routes : Routes
    """

    product: DepthwiseProduct
    x: Tensor
    harmonics: Tensor
    weights: Tensor
    routes: Routes

    @classmethod
    def of(cls, model: Forecaster, edges: Edges, n_atoms: int) -> Convolution:
        """Return that of the second layer of a network, with features at random.

        In the network's precision.
        """
        layer = model.layers[min(1, len(model.layers) - 1)]
        assert isinstance(layer, Interaction)  # noqa: S101  for the type checker
        rule = layer.edge_product.rule
        like = {"device": model.device, "dtype": model.dtype}
        generator = torch.Generator(model.device).manual_seed(0)

        def numbers(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, **like)

        vectors = edges.vectors.to(model.dtype)
        return cls(
            product=layer.edge_product,
            x=numbers(n_atoms, rule.dim_in, layer.n_channels),
            harmonics=spherical_harmonics(vectors, rule.lmax, normalize=True),
            weights=numbers(len(vectors), rule.n_paths * layer.n_channels),
            routes=Routes.of_edges(edges, n_atoms),
        )

    @property
    def message_bytes(self) -> float:
        """Memory of the messages of all edges, which some write."""
        rows = sum(path.out.dim for path in self.product.rule.paths)
        return float(len(self.weights) * rows * self.x.shape[2] * self.x.itemsize)

    def exact(self) -> Tensor:
        """Return the sums in float64, by torch; some edges at a time."""
        total: Tensor | None = None
        product = DepthwiseProduct(self.product.rule).to(self.x.device)
        for part in torch.arange(len(self.weights)).split(5000):
            chosen = slice(int(part[0]), int(part[-1]) + 1)
            receivers = self.routes.receivers[chosen]
            bounds = torch.arange(len(self.x) + 1, device=receivers.device)
            offsets = torch.searchsorted(receivers, bounds)
            routes = Routes(receivers, self.routes.senders[chosen], offsets)
            sums = product.convolve(
                self.x.double(),
                self.harmonics[chosen].double(),
                WeightRows(
                    self.weights[chosen].double(),
                    torch.arange(len(receivers), device=receivers.device),
                ),
                routes,
            )
            joined = _joined(sums)
            total = joined if total is None else total + joined
        assert total is not None  # noqa: S101  for the type checker
        return total

    def by_backend(self, backend: Backend) -> Entry:
        """Return the sums as a backend makes them in a training."""
        every = torch.arange(len(self.weights), device=self.x.device)
        rows = WeightRows(self.weights, every)
        arguments = (self.product, self.x, self.harmonics, rows, self.routes)
        return Entry(partial(backend.convolve, *arguments), _joined)

    def by_e3nn(self) -> Entry:
        """Return the sums of messages of ``e3nn.o3.TensorProduct``."""
        rule = self.product.rule
        with generated_as("eager"):
            product = depthwise(self._e3nn_irreps(), rule.lmax).to(self.x)
        x, routes = self._mul_ir(), self.routes
        width = product.irreps_out.dim

        def call() -> Tensor:
            messages = product(x[routes.senders], self.harmonics, self.weights)
            sums = messages.new_zeros(len(x), width)
            return sums.index_add(0, routes.receivers, messages)

        return Entry(call, self._from_mul_ir)

    def by_openequivariance(self) -> Entry:
        """Return the fused sums of OpenEquivariance, in the deterministic way.

        Bharadwaj et al., arXiv:2501.13986.
        """
        try:
            import openequivariance as oeq  # noqa: PLC0415  optional
        except ImportError as error:
            raise NotInstalledError from error
        with generated_as("eager"):
            template = depthwise(self._e3nn_irreps(), self.product.rule.lmax)
        problem = oeq.TPProblem(
            template.irreps_in1,
            template.irreps_in2,
            template.irreps_out,
            [
                (i.i_in1, i.i_in2, i.i_out, i.connection_mode, i.has_weight)
                for i in template.instructions
            ],
            shared_weights=False,
            internal_weights=False,
        )
        convolution = oeq.TensorProductConv(problem, deterministic=True)
        receivers, senders = self.routes.receivers, self.routes.senders
        order = torch.argsort(receivers * len(self.x) + senders)
        receivers, senders = receivers[order], senders[order]
        by_sender = torch.argsort(senders * len(self.x) + receivers)
        x, harmonics = self._mul_ir(), self.harmonics[order].contiguous()
        weights = convolution.reorder_weights_from_e3nn(self.weights[order])
        arguments = (x, harmonics, weights, receivers, senders, by_sender)
        return Entry(partial(convolution, *arguments), self._from_mul_ir)

    def by_cuequivariance(self) -> Entry:
        """Return the fused sums of cuEquivariance.

        The product is written as its polynomial in our layout; "uniform_1d" is its
        kernel for cards, "naive" what it does elsewhere.
        """
        try:
            import cuequivariance_torch as cuet  # noqa: PLC0415  optional
        except ImportError as error:
            raise NotInstalledError from error
        method = "uniform_1d" if self.x.is_cuda else "naive"
        polynomial = self._polynomial()
        convolution = cuet.SegmentedPolynomial(
            polynomial, method=method, math_dtype=self.x.dtype
        ).to(self.x.device)
        x, routes = self.x.flatten(1).contiguous(), self.routes

        arguments = (
            [self.weights, x, self.harmonics],
            {1: routes.senders},
            {0: x},
            {0: routes.receivers},
        )
        return Entry(partial(convolution, *arguments), lambda sums: sums[0])

    def _polynomial(self) -> object:
        """Return the product as weights, features, harmonics and sums, by rows."""
        import cuequivariance as cue  # noqa: PLC0415  optional

        rule, channels = self.product.rule, self.x.shape[2]
        made = cue.SegmentedTensorProduct.from_subscripts("u,u,,u")
        for _ in range(rule.n_paths):
            made.add_segment(0, (channels,))
        for _ in range(rule.dim_in):
            made.add_segment(1, (channels,))
        for _ in range(rule.n_harmonics):
            made.add_segment(2, ())
        places = {}
        for block in rule.blocks:
            for component in range(block.irrep.dim):
                for path in range(block.first, block.first + block.n_paths):
                    places[path, component] = made.add_segment(3, (channels,))
        starts = [rows.start for rows in slices(rule.irreps)]
        harmonics = [rows.start for rows in slices(harmonics_irreps(rule.lmax))]
        for number, path in enumerate(rule.paths):
            symbol = wigner_3j(rule.irreps[path.block].l, path.harmonic, path.out.l)
            symbol = symbol * path.out.dim**0.5
            for i, j, k in symbol.nonzero().tolist():
                made.add_path(
                    number,
                    starts[path.block] + i,
                    harmonics[path.harmonic] + j,
                    places[number, k],
                    c=float(symbol[i, j, k]),
                )
        return cue.SegmentedPolynomial.eval_last_operand(made)

    def _e3nn_irreps(self) -> o3.Irreps:
        channels = self.x.shape[2]
        return o3.Irreps([(channels, str(ir)) for ir in self.product.rule.irreps])

    def _mul_ir(self) -> Tensor:
        """Return the features as e3nn lays them out: channels before components."""
        blocks = [self.x[:, rows] for rows in slices(self.product.rule.irreps)]
        return torch.cat([block.mT.flatten(1) for block in blocks], dim=1)

    def _from_mul_ir(self, sums: Sums) -> Tensor:
        """Return sums, path after path as e3nn lays them out, in our layout."""
        assert isinstance(sums, Tensor)  # noqa: S101  for the type checker
        rule, channels = self.product.rule, self.x.shape[2]
        widths = [path.out.dim * channels for path in rule.paths]
        parts = sums.split_with_sizes(widths, dim=1)
        blocks = []
        for block in rule.blocks:
            chosen = parts[block.first : block.first + block.n_paths]
            shaped = [one.view(-1, channels, block.irrep.dim).mT for one in chosen]
            blocks.append(torch.cat(shaped, dim=2))
        return _joined(tuple(blocks))


def _joined(sums: Sums) -> Tensor:
    return torch.cat([one.flatten(1) for one in sums], dim=1)


def libraries(
    convolution: Convolution, backends: Mapping[str, Backend]
) -> dict[str, Callable[[], Entry]]:
    """Return what prepares each contestant, by name; some are not installed."""
    ours = {
        name: partial(convolution.by_backend, backend)
        for name, backend in backends.items()
    }
    return ours | {
        "e3nn": convolution.by_e3nn,
        "cuEquivariance": convolution.by_cuequivariance,
        "OpenEquivariance": convolution.by_openequivariance,
    }
